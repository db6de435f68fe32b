/** Which of a step's candidates are committed: in what order, and how many. */

import { STREAM } from "./generated/constants.js";
import { uniform } from "./random.js";

/**
 * @typedef {import("./config.js").Config} Config
 * @typedef {Pick<import("./predict.js").Candidates, "positions" | "tokens" | "oddsAgainst" | "entropies">} Committed
 */

/**
 * Return the candidates to commit, the most certain first.
 *
 * @param {Committed} candidates @param {number} scheduled how many the schedule commits; a rule only adds to them
 * @param {Config} config @param {number} block @param {number} step
 * @returns {Committed}
 */
export function chosen(candidates, scheduled, config, block, step) {
  const order = commitOrder(candidates, config, block, step);
  const [odds, entropies] = [candidates.oddsAgainst, candidates.entropies].map((values) => order.map((i) => values[i]));
  const count = Math.max(scheduled, RULES[config.commit](odds, entropies, config));
  const first = order.slice(0, count);
  return {
    positions: first.map((i) => candidates.positions[i]),
    tokens: first.map((i) => candidates.tokens[i]),
    oddsAgainst: odds.slice(0, count),
    entropies: entropies.slice(0, count),
  };
}

/**
 * Return the order in which candidates are committed; ties go to the lowest position.
 *
 * @param {Committed} candidates @param {Config} config @param {number} block @param {number} step
 */
function commitOrder({ positions, oddsAgainst }, { remasking, seed }, block, step) {
  const keys =
    remasking === "random"
      ? positions.map((position) => -uniform(seed, STREAM.remasking, block, step, position))
      : oddsAgainst;
  return [...keys.keys()].sort((a, b) => keys[a] - keys[b]); // stable
}

/**
 * How many candidates, in commit order, are certain enough to be committed together.
 *
 * @type {Record<Config["commit"], (odds: number[], entropies: number[], config: Config) => number>}
 */
export const RULES = {
  schedule: () => 0, // commits the scheduled number alone
  factor: (odds, _, { commit_factor }) => factorCount(odds, commit_factor),
  entropy: (_, entropies, { commit_entropy }) => entropyCount(entropies, commit_entropy),
};

/**
 * The largest m with (m + 1)(1 - c) < `factor`, where c is the confidence of the m-th (Fast-dLLM, arXiv:2505.22618).
 *
 * @param {number[]} odds against them, ascending @param {number} factor
 */
function factorCount(odds, factor) {
  return odds.filter((against, i) => {
    const finite = Math.min(against, Number.MAX_VALUE); // an infinite one would be Infinity / Infinity
    return (i + 2) * (finite / (1 + finite)) < factor; // 1 - c, and precise where c is almost 1
  }).length;
}

/**
 * The largest m for which the first m of `entropies` less the largest sum to at most `bound` (EB-Sampler,
 * arXiv:2505.24857).
 *
 * @param {number[]} entropies in nats @param {number} bound in nats
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
