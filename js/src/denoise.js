/** The loop: a canvas in, a step for everything that is committed out. It knows ids and a model, nothing else. */

import { Passes } from "./passes.js";
import { Predictor } from "./predict.js";
import { STREAM } from "./generated/constants.js";
import { confidence, uniform } from "./sampling.js";
import { commitCounts, sureCount } from "./schedule.js";

/**
 * @typedef {import("./canvas.js").Canvas} Canvas
 * @typedef {import("../types/index.js").SpecialIds} SpecialIds
 * @typedef {import("./config.js").Config} Config
 * @typedef {import("./predict.js").Guess} Guess
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("../types/index.js").Step} Step
 */

/**
 * Take a canvas from masks to text, block by block from left to right.
 *
 * @param {Session} session @param {Canvas} canvas @param {Config} config @param {SpecialIds} special
 * @param {(canvas: Canvas) => boolean} isSettled whether what is shown of a canvas cannot change any more
 * @returns {AsyncGenerator<Omit<Step, "text">>}
 */
export async function* denoise(session, canvas, config, special, isSettled) {
  const predictor = new Predictor(session, config, special);
  const passes = new Passes(config, special.mask);
  let index = 0;
  try {
    for (const { block, step, count } of plan(canvas, config)) {
      const [, end] = canvas.block(block, config.block_length);
      if (!canvas.candidates(end, special.mask).length) continue;
      const view = passes.view(canvas, block);
      const guess = await predictor.guess(view, block, step);
      const { positions, tokens, doubts, entropies } = ordered(guess, config, block, step);
      const most = Math.max(count, sureCount(doubts, entropies, config));
      const committed = { positions: positions.slice(0, most), tokens: tokens.slice(0, most) };
      canvas = canvas.commit(committed.positions, committed.tokens);
      passes.committed(guess.kept, entropies.slice(0, most));
      yield {
        index: index++,
        block,
        ...committed,
        confidence: doubts.slice(0, most).map(confidence),
        ids: canvas.ids,
        start: canvas.start,
        masksLeft: canvas.candidates(canvas.length, special.mask).length,
        numComputed: view.computed.length,
        numPredicted: positions.length,
      };
      if (isSettled(canvas)) return;
    }
  } finally {
    passes.release();
  }
}

/**
 * The steps in their order, and how many tokens each commits at least. A block has only masks when its turn comes.
 *
 * @param {Canvas} canvas @param {Config} config
 */
function* plan(canvas, config) {
  const blocks = Math.ceil((canvas.length - canvas.start) / config.block_length);
  const steps = Math.ceil(config.steps / blocks);
  for (let block = 0; block < blocks; block++) {
    const [start, end] = canvas.block(block, config.block_length);
    for (const [step, count] of commitCounts(end - start, steps).entries()) yield { block, step, count };
  }
}

/**
 * A guess in the order in which its candidates are committed: ties go to the lowest position.
 *
 * @param {Guess} guess @param {Config} config @param {number} block @param {number} step
 */
function ordered({ positions, tokens, doubts, entropies }, { remasking, seed }, block, step) {
  const keys =
    remasking === "random"
      ? positions.map((position) => -uniform(seed, STREAM.remasking, block, step, position))
      : doubts;
  const order = [...keys.keys()].sort((a, b) => keys[a] - keys[b]); // stable
  const inOrder = (/** @type {number[]} */ values) => order.map((i) => values[i]);
  return {
    positions: inOrder(positions),
    tokens: inOrder(tokens),
    doubts: inOrder(doubts),
    entropies: inOrder(entropies),
  };
}
