/** One pass: a canvas in, a token and a doubt for every candidate position out. */

import { NumericsError } from "./errors.js";
import { LIKELY_MISS, STREAM } from "./generated/constants.js";
import { doubt, drawBeyond, penalise, uniform, walk } from "./sampling.js";

/**
 * @typedef {import("./session.js").Predictions} Predictions
 * @typedef {import("./session.js").Pass} Pass
 * @typedef {import("./passes.js").View} View
 *
 * @typedef {object} Guess what a step could commit
 * @property {number[]} positions [n], the candidates, ascending
 * @property {number[]} tokens [n]
 * @property {number[]} doubts [n], the odds against each
 * @property {number[]} entropies [n], in nats
 * @property {import("./session.js").Kept} [kept] what the pass left for later ones
 */

/** Asks a model for the candidates of a canvas, and draws from what it says. */
export class Predictor {
  #missIsLikely = false;

  /**
   * @param {import("./session.js").Session} session @param {import("./config.js").Config} config
   * @param {import("../types/index.js").SpecialIds} special
   */
  constructor(session, config, special) {
    this.session = session;
    this.config = config;
    this.mask = special.mask;
    this.exempt = new Set([special.mask, special.eos, ...config.penalty_exempt]);
    this.temperature = Math.fround(config.temperature) || 1;
  }

  /**
   * @param {View} view @param {number} block number of the active block @param {number} step number of this step in it
   * @returns {Promise<Guess>}
   * @throws {NumericsError} the model returned something that is not finite
   */
  async guess(view, block, step) {
    const [, end] = view.canvas.block(block, this.config.block_length);
    const positions = view.canvas.candidates(end, this.mask);
    const pass = this.#pass(view, positions);
    const predictions = await this.session.run(pass, { logits: this.#missIsLikely });
    checkFinite(predictions, block, step);
    const draw = (/** @type {number} */ position) => uniform(this.config.seed, STREAM.token, block, step, position);
    const drawing = this.config.temperature > 0;
    const chosen = drawing ? await this.#draw(predictions, pass, positions.map(draw)) : best(predictions);
    const doubts = chosen.map(({ logit }, i) => doubt(logit, predictions.topLogits[i][0], predictions.rest[i]));
    const tokens = chosen.map(({ token }) => token);
    return { positions, tokens, doubts, entropies: [...predictions.entropy], kept: predictions.kept };
  }

  /** @param {View} view @param {number[]} positions @returns {Pass} that asks for `positions` */
  #pass({ canvas, computed, kept, keep }, positions) {
    const seen = [...new Set(canvas.ids)].filter((id) => !this.exempt.has(id));
    const places = new Map(computed.map((position, place) => [position, place]));
    return {
      inputIds: computed.map((position) => canvas.ids[position]),
      positionIds: computed,
      rows: positions.map((position) => places.get(position) ?? -1),
      seenIds: seen.length ? seen : [0],
      penalty: seen.length ? this.config.repetition_penalty : 1,
      temperature: this.temperature,
      pastPositionIds: kept && [...canvas.ids.keys()].map((position) => (places.has(position) ? -1 : position)),
      kept,
      keep,
    };
  }

  /** @param {Predictions} predictions @param {Pass} pass @param {number[]} uniforms a row's each */
  async #draw(predictions, pass, uniforms) {
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
      logits ??= /** @type {Float32Array[]} */ (
        (await this.session.run({ ...pass, keep: false }, { logits: true })).logits
      );
      const row = penalise(logits[i], pass.seenIds, pass.penalty);
      const token = drawBeyond(row, this.temperature, u * total, topIds);
      chosen.push({ token, logit: row[token] });
    }
    this.#missIsLikely = missing > LIKELY_MISS;
    return chosen;
  }
}

/** @param {Predictions} predictions @returns {{ token: number, logit: number }[]} a row's best each */
function best({ topIds, topLogits }) {
  return topIds.map(([token], i) => ({ token, logit: topLogits[i][0] }));
}

/** @param {Predictions} predictions @param {number} block @param {number} step */
function checkFinite({ topLogits, rest, restTempered, entropy }, block, step) {
  const values = [topLogits.map(([logit]) => logit), rest, restTempered, entropy];
  if (!values.every((column) => column.every(Number.isFinite))) {
    throw new NumericsError(
      `the model returned logits that are not finite in step ${step} of block ${block}: its weights, or the ` +
        "precision it runs in, are broken; check the bundle's files, or use the variant fp32",
    );
  }
}
