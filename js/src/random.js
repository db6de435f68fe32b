/** Uniform numbers by a counter-based hash: the same for the same seed in any language. */

const GOLDEN = 0x9e3779b9;

/**
 * Return 32 hashed bits: one multiply-xorshift round a word, all arithmetic wrapping.
 *
 * @param {bigint} seed 0 to 2^64 - 1
 * @param {number} stream @param {number} block @param {number} step @param {number} position
 * @returns {number} 0 to 2^32 - 1
 */
export function uniformHash(seed, stream, block, step, position) {
  const words = [Number(seed & 0xffffffffn), Number(seed >> 32n), stream, block, step, position];
  return words.reduce((h, word) => (mix(h ^ word) + GOLDEN) >>> 0, GOLDEN);
}

/**
 * Return a number in [0, 1): the upper 24 bits of `uniformHash` over 2^24.
 *
 * @param {bigint} seed @param {number} stream @param {number} block @param {number} step @param {number} position
 */
export function uniform(seed, stream, block, step, position) {
  return (uniformHash(seed, stream, block, step, position) >>> 8) / 2 ** 24;
}

/** @param {number} x @returns {number} its bits scattered (the finalizer "lowbias32" by C. Wellons), unsigned */
function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}
