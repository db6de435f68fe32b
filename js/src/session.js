/** A variant's denoiser, running: a pass's inputs in, predictions out. */

import { BundleError } from "./errors.js";
import { DENOISER_INPUTS, DENOISER_OUTPUTS, REDUCTIONS } from "./generated/contract.js";

/**
 * @typedef {import("../types/index.js").InferenceSession} InferenceSession
 * @typedef {import("../types/index.js").Ort} Ort
 * @typedef {import("../types/index.js").Tensor} Tensor
 * @typedef {Record<string, { dtype: string, axes: readonly (string | number)[] }>} Values by name, of a graph
 *
 * @typedef {{ key: Tensor, value: Tensor }} KVCache what a pass returned for later ones, float32 [layers, 1, seq, hidden]
 *
 * @typedef {object} PassInput the inputs of one pass
 * @property {number[]} inputIds [seq], the tokens to compute
 * @property {number[]} positionIds [seq], their places in the canvas
 * @property {number[]} rows [n], indices into these of the positions to predict, ascending
 * @property {number[]} seenIds [u], the ids under repetition penalty, at least one
 * @property {number} repetitionPenalty
 * @property {number} temperature
 * @property {Past} [past] the other tokens; none where all are computed
 * @property {boolean} returnKV whether `Predictions.kvCache` is wanted
 *
 * @typedef {object} Past the tokens that a pass attends to without computing them
 * @property {number[]} positionIds their places in the canvas; -1 is none
 * @property {KVCache} cache what an earlier pass returned
 *
 * @typedef {object} Predictions what a pass predicts for its n rows, after the repetition penalty
 * @property {number[][]} topIds [n, k], the best tokens, best first
 * @property {Float32Array[]} topLogits [n, k], their logits
 * @property {Float32Array} rest [n], the sum of exp(logit - best) over all tokens but the best
 * @property {Float32Array} restTempered [n], the sum of exp((logit - best) / temperature) over the same
 * @property {Float32Array} entropy [n], in nats
 * @property {Float32Array[]} [logits] [n, vocab], before the penalty; -inf for a token that the graph cannot predict
 * @property {KVCache} [kvCache]
 */

export class Session {
  #ort;
  #session;
  #bundle;
  #emptyPast;

  /**
   * @param {Ort} ort @param {InferenceSession} session @param {import("./bundle.js").Bundle} bundle
   * @throws {BundleError} the graph is not a denoiser
   */
  constructor(ort, session, bundle) {
    checkNames(session, DENOISER_INPUTS, DENOISER_OUTPUTS, "denoiser");
    this.#ort = ort;
    this.#session = session;
    this.#bundle = bundle;
    const sizes = { layers: bundle.layers, batch: 1, past: 0, hidden: bundle.hidden_size };
    const nothing = { past_position_ids: [], past_key: [], past_value: [] };
    this.#emptyPast = tensors(ort, DENOISER_INPUTS, nothing, sizes);
  }

  /**
   * @param {PassInput} given @param {{ logits?: boolean }} [options] whether to return the raw logits as well
   * @returns {Promise<Predictions>}
   */
  async run(given, { logits = false } = {}) {
    const wanted = [...REDUCTIONS, ...(logits ? ["logits"] : []), ...(given.returnKV ? ["key", "value"] : [])];
    const outputs = await this.#session.run(this.#feeds(given), wanted);
    const { top_ids, top_logits, rest, rest_tempered, entropy } = outputs;
    return {
      topIds: rowsOf(top_ids).map((row) => Array.from(row, Number)),
      topLogits: rowsOf(top_logits),
      rest: rest.data,
      restTempered: rest_tempered.data,
      entropy: entropy.data,
      logits: logits ? rowsOf(outputs.logits).map((row) => this.#scatterToVocab(row)) : undefined,
      kvCache: given.returnKV ? { key: outputs.key, value: outputs.value } : undefined,
    };
  }

  /** @param {PassInput} given @returns {Record<string, Tensor>} */
  #feeds({ inputIds, positionIds, rows, seenIds, repetitionPenalty, temperature, past }) {
    const own = {
      input_ids: inputIds,
      position_ids: positionIds,
      rows,
      seen_ids: seenIds,
      repetition_penalty: [repetitionPenalty],
      temperature: [temperature],
    };
    const sizes = { batch: 1, seq: inputIds.length, n: rows.length, u: seenIds.length };
    return { ...tensors(this.#ort, DENOISER_INPUTS, own, sizes), ...(past ? this.#past(past) : this.#emptyPast) };
  }

  /** @param {Past} past @returns {Record<string, Tensor>} */
  #past({ positionIds, cache }) {
    const sizes = { batch: 1, past: positionIds.length };
    const places = tensors(this.#ort, DENOISER_INPUTS, { past_position_ids: positionIds }, sizes);
    return { ...places, past_key: cache.key, past_value: cache.value };
  }

  /** @param {Float32Array} row [columns], one for each id that the graph can predict @returns {Float32Array} [vocab] */
  #scatterToVocab(row) {
    const { output_vocabulary: ids, vocab_size: size } = this.#bundle;
    if (!ids) return row;
    const all = new Float32Array(size).fill(-Infinity);
    ids.forEach((id, column) => (all[id] = row[column]));
    return all;
  }
}

/**
 * Return tensors of the types and shapes that a graph's contract gives them.
 *
 * @param {Ort} ort @param {Values} contract @param {Record<string, readonly (number | bigint)[]>} given by name, flat
 * @param {Record<string, number>} sizes by the name of an axis
 * @returns {Record<string, Tensor>}
 */
export function tensors(ort, contract, given, sizes) {
  return Object.fromEntries(
    Object.entries(given).map(([name, values]) => {
      const { dtype, axes } = contract[name];
      const data = dtype === "int64" ? BigInt64Array.from(values, BigInt) : Float32Array.from(values, Number);
      const dims = axes.map((axis) => (typeof axis === "number" ? axis : sizes[axis]));
      return [name, new ort.Tensor(dtype, data, dims)];
    }),
  );
}

/**
 * @param {InferenceSession} session @param {Values} inputs @param {Values} outputs @param {string} kind
 * @throws {BundleError} the graph has other names
 */
export function checkNames(session, inputs, outputs, kind) {
  const sorted = (/** @type {readonly string[]} */ names) => [...names].sort().join(", ");
  for (const [found, expected] of [
    [session.inputNames, Object.keys(inputs)],
    [session.outputNames, Object.keys(outputs)],
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
