/** A variant's denoiser, running: a pass's inputs in, predictions out. */

import { BundleError } from "./errors.js";
import { DENOISER_INPUTS, DENOISER_OUTPUTS, REDUCTIONS } from "./generated/contract.js";

/**
 * @typedef {import("../types/index.js").InferenceSession} InferenceSession
 * @typedef {import("../types/index.js").Ort} Ort
 * @typedef {import("../types/index.js").Tensor} Tensor
 * @typedef {{ dtype: string, axes: readonly (string | number)[], perLayer?: boolean }} Value
 * @typedef {Record<string, Value>} Values by name, of a graph; those of each layer by their names without its number
 *
 * @typedef {Record<string, Tensor>} KVCache what a pass returned for later ones: `key.0`, `value.0`, `key.1`, …, each
 *   float32 [1, seq, hidden]
 *
 * @typedef {object} PassInput the inputs of one pass
 * @property {number[]} inputIds [seq], the tokens to compute
 * @property {number[]} positionIds [seq], their places in the canvas
 * @property {number[]} rows [n], indices into these of the positions to predict, ascending
 * @property {number[]} seenIds [u], the ids under repetition penalty, ascending
 * @property {readonly number[]} suppressIds [s], the ids never to choose
 * @property {number} repetitionPenalty
 * @property {number} temperature
 * @property {boolean} wantLogits whether `Predictions.logits` is wanted
 * @property {boolean} wantEntropy whether `Predictions.entropy` is wanted
 * @property {Past} [past] the other tokens; none where all are computed
 * @property {boolean} returnKV whether `Predictions.kvCache` is wanted
 *
 * @typedef {object} Past the tokens that a pass attends to without computing them
 * @property {number[]} positionIds their places in the canvas; -1 is none
 * @property {KVCache} cache what an earlier pass returned
 *
 * @typedef {object} Predictions what a pass predicts for its n rows, after the penalty and without the suppressed ids
 * @property {number[][]} topIds [n, k], the best tokens, best first
 * @property {Float32Array[]} topLogits [n, k], their logits
 * @property {Float32Array} rest [n], the sum of exp(logit - best) over all tokens but the best
 * @property {Float32Array} restTempered [n], the sum of exp((logit - best) / temperature) over the same
 * @property {Float32Array} entropy [n], in nats; without meaning unless wanted
 * @property {Float32Array[]} [logits] [n, vocab], raw; -inf for a token that the graph cannot predict
 * @property {KVCache} [kvCache]
 */

export class Session {
  #ort;
  #session;
  #bundle;
  #inputs;
  #kept;
  #emptyPast;

  /**
   * @param {Ort} ort @param {InferenceSession} session @param {import("./bundle.js").Bundle} bundle
   * @throws {BundleError} the graph is not a denoiser
   */
  constructor(ort, session, bundle) {
    const [inputs, outputs] = [DENOISER_INPUTS, DENOISER_OUTPUTS].map((values) => forLayers(values, bundle.layers));
    checkNames(session, inputs, outputs, "denoiser");
    this.#ort = ort;
    this.#session = session;
    this.#bundle = bundle;
    this.#inputs = inputs;
    this.#kept = Object.keys(outputs).filter((name) => !Object.hasOwn(DENOISER_OUTPUTS, name));
    const nothing = Object.keys(inputs).filter((name) => inputs[name].axes.includes("past"));
    const sizes = { batch: 1, past: 0, hidden: bundle.hidden_size };
    this.#emptyPast = tensors(ort, inputs, Object.fromEntries(nothing.map((name) => [name, []])), sizes);
  }

  /** @param {PassInput} given @returns {Promise<Predictions>} */
  async run(given) {
    const { wantLogits, returnKV } = given;
    const wanted = [...REDUCTIONS, ...(wantLogits ? ["logits"] : []), ...(returnKV ? this.#kept : [])];
    const outputs = await this.#session.run(this.#feeds(given), wanted);
    const { top_ids, top_logits, rest, rest_tempered, entropy } = outputs;
    return {
      topIds: rowsOf(top_ids).map((row) => Array.from(row, Number)),
      topLogits: rowsOf(top_logits),
      rest: rest.data,
      restTempered: rest_tempered.data,
      entropy: entropy.data,
      logits: wantLogits ? rowsOf(outputs.logits).map((row) => this.#scatterToVocab(row)) : undefined,
      kvCache: returnKV ? Object.fromEntries(this.#kept.map((name) => [name, outputs[name]])) : undefined,
    };
  }

  /** @param {PassInput} given @returns {Record<string, Tensor>} */
  #feeds({ inputIds, positionIds, rows, seenIds, suppressIds, past, ...given }) {
    const own = {
      input_ids: inputIds,
      position_ids: positionIds,
      rows,
      seen_ids: seenIds,
      suppress_ids: suppressIds,
      repetition_penalty: [given.repetitionPenalty],
      temperature: [given.temperature],
      target_ids: [],
      want_logits: [Number(given.wantLogits)],
      want_entropy: [Number(given.wantEntropy)],
    };
    const sizes = { batch: 1, seq: inputIds.length, n: rows.length, u: seenIds.length, s: suppressIds.length, t: 0 };
    return { ...tensors(this.#ort, this.#inputs, own, sizes), ...(past ? this.#past(past) : this.#emptyPast) };
  }

  /** @param {Past} past @returns {Record<string, Tensor>} */
  #past({ positionIds, cache }) {
    const sizes = { batch: 1, past: positionIds.length };
    const places = tensors(this.#ort, this.#inputs, { past_position_ids: positionIds }, sizes);
    const kept = Object.entries(cache).map(([name, tensor]) => [`past_${name}`, tensor]);
    return { ...places, ...Object.fromEntries(kept) };
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

const ARRAYS = {
  int64: (/** @type {readonly any[]} */ values) => BigInt64Array.from(values, BigInt),
  float32: (/** @type {readonly any[]} */ values) => Float32Array.from(values, Number),
  bool: (/** @type {readonly any[]} */ values) => Uint8Array.from(values, Number),
};

/** @param {Values} values @param {number} layers @returns {Values} those of a graph with so many layers, `key.0` for `key` */
function forLayers(values, layers) {
  const ofLayers = (/** @type {string} */ name) => Array.from({ length: layers }, (_, i) => `${name}.${i}`);
  const names = (/** @type {[string, Value]} */ [name, { perLayer }]) => (perLayer ? ofLayers(name) : [name]);
  return Object.fromEntries(Object.entries(values).flatMap((one) => names(one).map((name) => [name, one[1]])));
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
      const data = ARRAYS[/** @type {keyof typeof ARRAYS} */ (dtype)](values);
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
