/** Pure arithmetic over rows: repetition penalty, sampling, confidence. A row is one masked position. */

/**
 * Return `logits` with those of `seenIds` made less likely: l / penalty above 0, else l * penalty, in float32 (CTRL,
 * arXiv:1909.05858).
 *
 * @param {Float32Array} logits [vocab] @param {number[]} seenIds each once @param {number} penalty
 */
export function penalise(logits, seenIds, penalty) {
  const penalised = logits.slice();
  const factor = Math.fround(penalty);
  for (const id of seenIds) penalised[id] = logits[id] > 0 ? logits[id] / factor : logits[id] * factor;
  return penalised;
}

/**
 * Walk the cumulative sum of exp((logit - best) / temperature), best first.
 *
 * @param {Float32Array} topLogits [k], best first @param {number} temperature a float32 @param {number} target
 * @returns {{ choice: number, passed: number }} the first candidate at which the sum exceeds `target`, k where none
 *   does; and the sum over all
 */
export function walk(topLogits, temperature, target) {
  let passed = 0;
  let choice = 0;
  for (const logit of topLogits) {
    passed += Math.exp((logit - topLogits[0]) / temperature);
    if (passed <= target) choice++;
  }
  return { choice, passed };
}

/**
 * Return the token at which the walk exceeds `target` when that lies beyond the candidates: the walk goes on by ascending
 * id over the other tokens, and ends at the last one where rounding overshoots.
 *
 * @param {Float32Array} logits penalised, [vocab]; -inf for an id that is suppressed
 * @param {number} temperature @param {number} target
 * @param {number[]} topIds the candidates, which the walk has passed, best first
 */
export function drawBeyond(logits, temperature, target, topIds) {
  const weight = (/** @type {number} */ id) => Math.exp((logits[id] - logits[topIds[0]]) / temperature);
  const passed = topIds.reduce((sum, id) => sum + weight(id), 0);
  const candidates = new Set(topIds);
  let last = [...topIds].reverse().find((id) => weight(id)) ?? topIds[0]; // suppressed ids can be among the candidates
  let sum = 0;
  for (let id = 0; id < logits.length; id++) {
    const own = candidates.has(id) ? 0 : weight(id);
    if (!own) continue;
    last = id;
    sum += own;
    if (passed + sum > target) break;
  }
  return last;
}

/**
 * Return the odds against a chosen token. Commits are ordered by them, lowest first, because confidences of 1 - 1e-9 and
 * 1 - 1e-8 are both 1 in float32, while these odds are 1e-9 and 1e-8.
 *
 * @param {number} chosen logit @param {number} best logit
 * @param {number} rest the sum of exp(logit - best) over all tokens but the best
 */
export function oddsAgainst(chosen, best, rest) {
  const likelihood = Math.exp(chosen - best);
  return (rest + (1 - likelihood)) / likelihood;
}

/** @param {number} odds against a token @returns {number} its probability, for people to read */
export function confidence(odds) {
  return 1 / (1 + odds);
}
