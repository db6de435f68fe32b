/** One pass: a token, and the odds against it, for every candidate position. */

import { NumericsError } from "./errors.js";
import { LIKELY_MISS, STREAM } from "./generated/constants.js";
import { uniform } from "./random.js";
import { drawBeyond, oddsAgainst, penalise, walk } from "./sampling.js";

/**
 * @typedef {import("./session.js").Predictions} Predictions
 * @typedef {import("./session.js").PassInput} PassInput
 * @typedef {import("./cache.js").PassPlan} PassPlan
 *
 * @typedef {object} Candidates what a step could commit
 * @property {number[]} positions [n], ascending
 * @property {number[]} tokens [n], one for each
 * @property {number[]} oddsAgainst [n], the odds against each token
 * @property {number[]} entropies [n], in nats
 * @property {import("./session.js").KVCache} [kvCache] what the pass returned for later ones
 */

/** Asks a model for the candidates of a canvas, and draws from its predictions. */
export class Predictor {
  #expectsMiss = false;

  /**
   * @param {import("./session.js").Session} session @param {import("./config.js").Config} config
   * @param {import("../types/index.js").SpecialIds} special
   */
  constructor(session, config, special) {
    this.session = session;
    this.config = config;
    this.mask = special.mask;
    this.exempt = new Set([special.mask, special.eos, ...config.penalty_exempt]);
    this.temperature = Math.fround(config.temperature) || 1; // rounded as the graph has it
  }

  /**
   * @param {PassPlan} plan @param {number} block number of the active block @param {number} step number of this step in it
   * @returns {Promise<Candidates>}
   * @throws {NumericsError} the model returned a value that is not finite
   */
  async candidates(plan, block, step) {
    const [, end] = plan.canvas.block(block, this.config.block_length);
    const positions = plan.canvas.candidates(end, this.mask);
    const given = this.#passInput(plan, positions);
    const predictions = await this.session.run(given);
    checkFinite(predictions, given.wantEntropy, block, step);
    const draw = (/** @type {number} */ position) => uniform(this.config.seed, STREAM.token, block, step, position);
    const draws = this.config.temperature > 0;
    const chosen = draws ? await this.#drawn(predictions, given, positions.map(draw)) : best(predictions);
    const { topLogits, rest, entropy, kvCache } = predictions;
    const odds = chosen.map(({ logit }, i) => oddsAgainst(logit, topLogits[i][0], rest[i]));
    return { positions, tokens: chosen.map(({ token }) => token), oddsAgainst: odds, entropies: [...entropy], kvCache };
  }

  /** @param {PassPlan} plan @param {number[]} positions @returns {PassInput} that predicts `positions` */
  #passInput({ canvas, computed, kvCache, returnKV }, positions) {
    const seen = [...new Set(canvas.ids)].filter((id) => !this.exempt.has(id)).sort((a, b) => a - b);
    const places = new Map(computed.map((position, place) => [position, place]));
    const pastIds = () => [...canvas.ids.keys()].map((position) => (places.has(position) ? -1 : position));
    return {
      inputIds: computed.map((position) => canvas.ids[position]),
      positionIds: computed,
      rows: positions.map((position) => places.get(position) ?? -1),
      seenIds: seen,
      suppressIds: this.config.suppress_tokens,
      repetitionPenalty: seen.length ? this.config.repetition_penalty : 1,
      temperature: this.temperature,
      wantLogits: this.#expectsMiss,
      wantEntropy: this.config.commit === "entropy" || this.config.refresh_entropy > 0,
      past: kvCache && { positionIds: pastIds(), cache: kvCache },
      returnKV,
    };
  }

  /** @param {Predictions} predictions @param {PassInput} given @param {number[]} uniforms one for each row */
  async #drawn(predictions, given, uniforms) {
    let { logits } = predictions;
    let missing = 0;
    const chosen = [];
    for (const [i, u] of uniforms.entries()) {
      const [topIds, topLogits] = [predictions.topIds[i], predictions.topLogits[i]];
      const total = 1 + predictions.restTempered[i];
      const { choice, passed } = walk(topLogits, this.temperature, u * total);
      missing += Math.min(Math.max(1 - passed / total, 0), 1);
      if (choice < topIds.length) {
        chosen.push({ token: topIds[choice], logit: topLogits[choice] });
        continue;
      }
      logits ??= await this.#logits(given);
      const row = penalise(logits[i], given.seenIds, given.repetitionPenalty);
      for (const id of given.suppressIds) row[id] = -Infinity;
      const token = drawBeyond(row, this.temperature, u * total, topIds);
      chosen.push({ token, logit: row[token] });
    }
    this.#expectsMiss = missing > LIKELY_MISS;
    return chosen;
  }

  /** @param {PassInput} given of a pass that did not return its logits @returns {Promise<Float32Array[]>} [n, vocab] */
  async #logits(given) {
    const { logits } = await this.session.run({ ...given, wantLogits: true, returnKV: false });
    return /** @type {Float32Array[]} */ (logits);
  }
}

/** @param {Predictions} predictions @returns {{ token: number, logit: number }[]} the best one of each row */
function best({ topIds, topLogits }) {
  return topIds.map(([token], i) => ({ token, logit: topLogits[i][0] }));
}

/**
 * @param {Predictions} predictions @param {boolean} wantEntropy @param {number} block @param {number} step
 * @throws {NumericsError}
 */
function checkFinite({ topLogits, rest, restTempered, entropy }, wantEntropy, block, step) {
  const values = [topLogits.map(([logit]) => logit), rest, restTempered, ...(wantEntropy ? [entropy] : [])];
  if (!values.every((column) => column.every(Number.isFinite))) {
    throw new NumericsError(
      `the model returned logits that are not finite in step ${step} of block ${block}: its weights, or the ` +
        "precision it runs in, are broken; check the bundle's files, or use another variant",
    );
  }
}
