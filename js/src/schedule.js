/** How many masks each step commits by the clock. */

const float32 = Math.fround;

/**
 * Return how many of `masks` masks each step commits: positive integers whose sum is `masks`; steps that would commit none are
 * left out. dllm's linear schedule: a float32 ratio, multiplied in float64, rounded half to even.
 *
 * @param {number} masks @param {number} steps @returns {number[]} at most `steps`
 */
export function commitCounts(masks, steps) {
  const counts = [];
  for (let step = 0; step < steps && masks > 0; step++) {
    const count = Math.min(roundHalfToEven(masks * transferProbability(step, steps)), masks);
    if (count) counts.push(count);
    masks -= count;
  }
  return counts;
}

/**
 * The probability that a mask is committed in `step`, given that it still is one.
 *
 * @param {number} step @param {number} steps
 */
function transferProbability(step, steps) {
  const [now, then] = [0, 1].map((passed) => float32(1 - float32((steps - step - passed) / steps))); // alpha
  return 1 - float32(float32(1 - then) / float32(1 - now));
}

/** @param {number} x at least 0 */
function roundHalfToEven(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 === 1 ? up - 1 : up;
}
