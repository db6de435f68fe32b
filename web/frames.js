/** The canvas after each step, and the figures of all steps, from ids alone: no page and no model. */

import { commitCounts } from "../js/src/schedule.js";
import { Ends } from "../js/src/stopping.js";

/**
 * @typedef {object} Place one place of the generated span as a person sees it
 * @property {"mask" | "new" | "settled" | "beyond"} state beyond: after the answer's end, where nothing will be read
 * @property {string} [piece] what its token looks like; a mask has none
 * @property {number} [confidence] the probability that the model gave to the token
 * @property {number} [step] number of the step that put it there, from 1
 *
 * @typedef {import("../js/types/index.js").Step & { pieces: string[], seconds: number }} Step with its tokens' pieces, and
 *   how long it took
 */

/**
 * Return the generated span after the first `count` of `steps`; before any of them it is all masks.
 *
 * @param {Step[]} steps @param {number} count @param {number} length @param {import("../js/types/index.js").Bundle} bundle
 * @returns {Place[]}
 */
export function places(steps, count, length, bundle) {
  /** @type {Place[]} */
  const span = Array.from({ length }, () => ({ state: "mask" }));
  for (const [i, { positions, pieces, confidence, start }] of steps.slice(0, count).entries()) {
    const state = i === count - 1 ? "new" : "settled";
    positions.forEach((position, j) => {
      span[position - start] = { state, piece: pieces[j], confidence: confidence[j], step: i + 1 };
    });
  }
  const last = steps[count - 1];
  const end = last ? endOf(last.ids.slice(last.start), bundle) : length;
  return span.map((place, i) => (i < end || place.state === "new" ? place : { ...place, state: "beyond" }));
}

/**
 * Return where the answer is known to end: after the stop sequence that ends it, or at a `<pad>` or `<eos>`; the length
 * of `ids` as long as there is no end without a mask before it.
 *
 * @param {readonly number[]} ids @param {import("../js/types/index.js").Bundle} bundle
 */
export function endOf(ids, { special_ids: special, stop_sequences: stops }) {
  const ends = new Ends(special, stops.map((stop) => stop.ids));
  const end = ends.find(ends.committed(ids));
  if (!end) return ids.length;
  return [special.pad, special.eos].includes(ids[end.begin]) ? end.begin : end.complete;
}

/**
 * @param {import("../js/types/index.js").Config} config
 * @returns {number} how many passes the schedule takes, if nothing ends it early
 */
export function planned({ steps, max_new_tokens: length, block_length: width }) {
  const blocks = Math.ceil(length / width);
  const share = Math.ceil(steps / blocks);
  const masks = Array.from({ length: blocks }, (_, block) => Math.min(width, length - block * width));
  return masks.reduce((sum, count) => sum + commitCounts(count, share).length, 0);
}

/**
 * @param {Step[]} steps @param {import("../js/types/index.js").Config} config
 * @returns {{ taken: number, planned: number, saved: number, speed: number }} passes, the share of those planned that
 *   were not needed, and tokens a second
 */
export function summary(steps, config) {
  const all = planned(config);
  const tokens = steps.reduce((sum, step) => sum + step.positions.length, 0);
  const seconds = steps.reduce((sum, step) => sum + step.seconds, 0);
  return { taken: steps.length, planned: all, saved: 1 - steps.length / all, speed: tokens / seconds };
}
