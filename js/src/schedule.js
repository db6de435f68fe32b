/** How many masks each step commits: by the clock, and by how sure the predictions are. */

const float32 = Math.fround;

/**
 * How many of `masks` masks each step commits: positive integers whose sum is `masks`; steps that would commit none are
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

/**
 * How many candidates, in commit order, are sure enough by the rule `config.commit` to go together.
 *
 * @param {number[]} doubts ascending @param {number[]} entropies in nats @param {import("./config.js").Config} config
 */
export function sureCount(doubts, entropies, config) {
  if (config.commit === "factor") return factorCount(doubts, config.commit_factor);
  if (config.commit === "entropy") return entropyCount(entropies, config.commit_entropy);
  return 0;
}

/**
 * The largest m with (m + 1)(1 - c) < `factor`, c the confidence of the m-th of `doubts` (Fast-dLLM, arXiv:2505.22618).
 *
 * @param {number[]} doubts ascending @param {number} factor
 */
function factorCount(doubts, factor) {
  return doubts.filter((doubt, i) => {
    const odds = Math.min(doubt, Number.MAX_VALUE); // an infinite one would be Infinity / Infinity
    return (i + 2) * (odds / (1 + odds)) < factor; // 1 - c, and precise where c is almost 1
  }).length;
}

/**
 * The largest m for which the first m of `entropies` less the largest sum to `bound` at most (EB-Sampler,
 * arXiv:2505.24857).
 *
 * @param {number[]} entropies @param {number} bound in nats
 */
function entropyCount(entropies, bound) {
  let sum = 0;
  let largest = -Infinity;
  return entropies.filter((nats) => {
    sum += nats;
    largest = Math.max(largest, nats);
    return sum - largest <= bound;
  }).length;
}
