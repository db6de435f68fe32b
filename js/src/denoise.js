/** The loop: a canvas in, a step for everything that is committed out. It knows ids and a model, nothing else. */

import { CachePolicy } from "./cache.js";
import { chosen } from "./commit.js";
import { Predictor } from "./predict.js";
import { confidence } from "./sampling.js";
import { commitCounts } from "./schedule.js";

/**
 * @typedef {import("./canvas.js").Canvas} Canvas
 * @typedef {import("./config.js").Config} Config
 * @typedef {import("../types/index.js").SpecialIds} SpecialIds
 * @typedef {Omit<import("../types/index.js").Step, "text" | "settled">} Step
 */

/**
 * Take a canvas from masks to text, block by block from left to right.
 *
 * @param {import("./session.js").Session} session @param {Canvas} canvas @param {Config} config
 * @param {SpecialIds} special
 * @param {(canvas: Canvas) => boolean} isSettled whether what is shown of a canvas can change no more
 * @returns {AsyncGenerator<Step>}
 */
export async function* denoise(session, canvas, config, special, isSettled) {
  const predictor = new Predictor(session, config, special);
  const policy = new CachePolicy(config, special.mask);
  let index = 0;
  try {
    for (const { block, step, count } of schedule(canvas, config)) {
      const [, end] = canvas.block(block, config.block_length);
      if (!canvas.candidates(end, special.mask).length) continue;
      const plan = policy.plan(canvas, block);
      const candidates = await predictor.candidates(plan, block, step);
      const committed = chosen(candidates, count, config, block, step);
      canvas = canvas.commit(committed.positions, committed.tokens);
      policy.committed(candidates.kvCache, committed.entropies);
      yield {
        index: index++,
        block,
        positions: committed.positions,
        tokens: committed.tokens,
        confidence: committed.oddsAgainst.map(confidence),
        ids: canvas.ids,
        start: canvas.start,
        masksLeft: canvas.candidates(canvas.length, special.mask).length,
        numComputed: plan.computed.length,
        numPredicted: candidates.positions.length,
      };
      if (isSettled(canvas)) return;
    }
  } finally {
    policy.clear();
  }
}

/**
 * Yield the steps in their order, and how many tokens each commits at least. A block has only masks when its turn comes.
 *
 * @param {Canvas} canvas @param {Config} config
 */
function* schedule(canvas, config) {
  const blocks = Math.ceil((canvas.length - canvas.start) / config.block_length);
  const steps = Math.ceil(config.steps / blocks);
  for (let block = 0; block < blocks; block++) {
    const [start, end] = canvas.block(block, config.block_length);
    for (const [step, count] of commitCounts(end - start, steps).entries()) yield { block, step, count };
  }
}
