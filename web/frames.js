/** The canvas after each step, and the figures of all steps: no page and no model. */

/**
 * @typedef {object} Place one place of the generated span as a person sees it
 * @property {"mask" | "new" | "settled" | "beyond"} state beyond: after the answer's end, where nothing will be read
 * @property {string} [piece] what its token looks like; a mask has none
 * @property {number} [confidence] the probability that the model gave to the token
 * @property {number} [step] number of the step that put it there, from 1
 *
 * @typedef {object} Step what one step of the model did
 * @property {number[]} positions places of the generated span, from 0, to which it committed tokens
 * @property {string[]} pieces what these tokens look like
 * @property {number[]} confidence the probabilities that the model gave to them
 * @property {number | null} beyond the first place after the answer's end; null as long as it is not known
 * @property {string} text the answer so far, which may still change
 * @property {number} seconds that the step took
 */

/**
 * Return the generated span after the first `count` of `steps`; before any of them it is all masks.
 *
 * @param {Step[]} steps @param {number} count @param {number} length
 * @returns {Place[]}
 */
export function places(steps, count, length) {
  /** @type {Place[]} */
  const span = Array.from({ length }, () => ({ state: "mask" }));
  for (const [i, { positions, pieces, confidence }] of steps.slice(0, count).entries()) {
    const state = i === count - 1 ? "new" : "settled";
    positions.forEach((position, j) => {
      span[position] = { state, piece: pieces[j], confidence: confidence[j], step: i + 1 };
    });
  }
  const end = steps[count - 1]?.beyond ?? length;
  return span.map((place, i) => (i < end || place.state === "new" ? place : { ...place, state: "beyond" }));
}

/**
 * @param {import("./model.js").Config} config
 * @returns {number} how many passes the schedule takes, if nothing ends it early: a block has its share of the steps, and
 *   no more than it has masks
 */
export function planned({ steps, max_new_tokens: length, block_length: width }) {
  const blocks = Math.ceil(length / width);
  const share = Math.ceil(steps / blocks);
  const masks = Array.from({ length: blocks }, (_, block) => Math.min(width, length - block * width));
  return masks.reduce((sum, count) => sum + Math.min(count, share), 0);
}

/**
 * @param {Step[]} steps @param {import("./model.js").Config} config
 * @returns {{ taken: number, planned: number, saved: number, speed: number }} passes, the share of those planned that
 *   were not needed, and tokens a second
 */
export function summary(steps, config) {
  const all = planned(config);
  const tokens = steps.reduce((sum, step) => sum + step.positions.length, 0);
  const seconds = steps.reduce((sum, step) => sum + step.seconds, 0);
  return { taken: steps.length, planned: all, saved: 1 - steps.length / all, speed: tokens / seconds };
}
