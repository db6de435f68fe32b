/** Generated from diffutron_ort/sampler by `python js/generate.py`: constants. */

/** What a uniform is drawn for, so that one seed gives each purpose numbers of its own. */
export const STREAM = { token: 0, remasking: 1, transfer: 2, scoring: 3 };

/** If more draws than this are expected to miss the candidates, the next pass also returns logits. */
export const LIKELY_MISS = 0.05;
