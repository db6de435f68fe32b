/** A variant's denoiser, running: tokens in, predictions out. */

import { BundleError } from "./errors.js";

const REDUCTIONS = ["top_ids", "top_logits", "rest", "rest_tempered", "entropy"];
const INPUTS = [
  "input_ids",
  "position_ids",
  "past_position_ids",
  "past_key",
  "past_value",
  "rows",
  "seen_ids",
  "repetition_penalty",
  "temperature",
];
const OUTPUTS = [...REDUCTIONS, "logits", "key", "value"];

/**
 * @typedef {import("../types/index.js").InferenceSession} InferenceSession
 * @typedef {import("../types/index.js").Ort} Ort
 * @typedef {import("../types/index.js").Tensor} Tensor
 *
 * @typedef {{ key: Tensor, value: Tensor }} Kept what a pass left for later ones, float32 [layers, 1, seq, hidden]
 *
 * @typedef {object} Pass the inputs of one pass
 * @property {number[]} inputIds the tokens to compute
 * @property {number[]} positionIds their places in the canvas
 * @property {number[]} rows which of them to predict
 * @property {number[]} seenIds the ids under repetition penalty, at least one
 * @property {number} penalty
 * @property {number} temperature
 * @property {number[]} [pastPositionIds] the places of `kept`; -1 is none
 * @property {Kept} [kept]
 * @property {boolean} keep whether `Predictions.kept` is wanted
 *
 * @typedef {object} Predictions what a pass says of its n rows
 * @property {number[][]} topIds [n, k], best first
 * @property {Float32Array[]} topLogits [n, k], penalised
 * @property {Float32Array} rest [n]
 * @property {Float32Array} restTempered [n]
 * @property {Float32Array} entropy [n], in nats
 * @property {Float32Array[]} [logits] [n, vocab], before the penalty; -inf for a piece that is never predicted
 * @property {Kept} [kept]
 */

export class Session {
  #ort;
  #session;
  #bundle;
  #emptyPast;

  /**
   * @param {Ort} ort @param {InferenceSession} session @param {import("./bundle.js").Bundle} bundle
   * @throws {BundleError} the graph is no denoiser
   */
  constructor(ort, session, bundle) {
    checkNames(session, INPUTS, OUTPUTS, "denoiser");
    this.#ort = ort;
    this.#session = session;
    this.#bundle = bundle;
    const nothing = new ort.Tensor("float32", new Float32Array(0), [bundle.layers, 1, 0, bundle.hidden_size]);
    this.#emptyPast = { past_position_ids: int64(ort, [], [1, 0]), past_key: nothing, past_value: nothing };
  }

  /**
   * @param {Pass} pass @param {{ logits?: boolean }} [options] whether to fetch the raw logits, too
   * @returns {Promise<Predictions>}
   */
  async run(pass, { logits = false } = {}) {
    const wanted = [...REDUCTIONS, ...(logits ? ["logits"] : []), ...(pass.keep ? ["key", "value"] : [])];
    const outputs = await this.#session.run(this.#feeds(pass), wanted);
    const { top_ids, top_logits, rest, rest_tempered, entropy } = outputs;
    return {
      topIds: rowsOf(top_ids).map((row) => Array.from(row, Number)),
      topLogits: rowsOf(top_logits),
      rest: rest.data,
      restTempered: rest_tempered.data,
      entropy: entropy.data,
      logits: logits ? rowsOf(outputs.logits).map((row) => this.#widened(row)) : undefined,
      kept: pass.keep ? { key: outputs.key, value: outputs.value } : undefined,
    };
  }

  /** @param {Pass} pass @returns {Record<string, Tensor>} */
  #feeds(pass) {
    const ort = this.#ort;
    const past = pass.kept && {
      past_position_ids: int64(ort, pass.pastPositionIds ?? [], [1, pass.pastPositionIds?.length ?? 0]),
      past_key: pass.kept.key,
      past_value: pass.kept.value,
    };
    return {
      input_ids: int64(ort, pass.inputIds, [1, pass.inputIds.length]),
      position_ids: int64(ort, pass.positionIds, [1, pass.positionIds.length]),
      rows: int64(ort, pass.rows, [pass.rows.length]),
      seen_ids: int64(ort, pass.seenIds, [1, pass.seenIds.length]),
      repetition_penalty: new ort.Tensor("float32", Float32Array.of(pass.penalty), [1]),
      temperature: new ort.Tensor("float32", Float32Array.of(pass.temperature), [1]),
      ...(past ?? this.#emptyPast),
    };
  }

  /** @param {Float32Array} row a column for each piece that can be predicted @returns {Float32Array} [vocab] */
  #widened(row) {
    const { output_vocabulary: ids, vocab_size: size } = this.#bundle;
    if (!ids) return row;
    const wide = new Float32Array(size).fill(-Infinity);
    ids.forEach((id, column) => (wide[id] = row[column]));
    return wide;
  }
}

/** @param {Ort} ort @param {readonly (number | bigint)[]} values @param {number[]} dims */
export function int64(ort, values, dims) {
  return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}

/**
 * @param {InferenceSession} session @param {string[]} inputs @param {string[]} outputs @param {string} kind
 * @throws {BundleError} the graph has other names
 */
export function checkNames(session, inputs, outputs, kind) {
  const sorted = (/** @type {readonly string[]} */ names) => [...names].sort().join(", ");
  for (const [found, expected] of [
    [session.inputNames, inputs],
    [session.outputNames, outputs],
  ]) {
    if (sorted(found) !== sorted(expected)) {
      throw new BundleError(
        `the graph is no ${kind}: it has ${sorted(found)}, not ${sorted(expected)}; export it again`,
      );
    }
  }
}

/** @param {Tensor} tensor [n, m] @returns {any[]} n views of its rows */
function rowsOf({ data, dims: [n, m] }) {
  return Array.from({ length: n }, (_, i) => data.subarray(i * m, (i + 1) * m));
}
