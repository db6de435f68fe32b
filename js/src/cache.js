/** What a pass computes of a sequence: every token, or those that can have changed since a full pass. */

/**
 * @typedef {import("./canvas.js").Canvas} Canvas
 * @typedef {import("./session.js").KVCache} KVCache
 *
 * @typedef {object} PassPlan what one pass does
 * @property {Canvas} canvas as it is
 * @property {number[]} computed [seq], the places that the pass computes, ascending
 * @property {KVCache} [kvCache] stands for the places that are not computed; none where all are
 * @property {boolean} returnKV whether later passes want this one's keys and values
 */

/**
 * Decides, pass by pass, what is computed of one sequence, and holds what a full pass returned for the next ones.
 *
 * While a block is active, only its own tokens change, and older masks that were left over: a cached pass computes
 * these. Those among them that have been committed since are still computed, because the full pass saw their masks.
 */
export class CachePolicy {
  #block = -1;
  #age = 0; // passes since the last full one, and itself
  /** @type {number[]} */
  #computed = [];
  /** @type {KVCache | undefined} */
  #kvCache;

  /** @param {import("./config.js").Config} config @param {number} mask */
  constructor(config, mask) {
    this.config = config;
    this.mask = mask;
  }

  /** @param {Canvas} canvas @param {number} block @returns {PassPlan} of the next pass while `block` is active */
  plan(canvas, block) {
    if (this.#kvCache && block === this.#block && this.#age !== this.config.refresh_steps) {
      return { canvas, computed: this.#computed, kvCache: this.#kvCache, returnKV: false };
    }
    this.clear(); // so that its memory serves the pass that replaces it
    this.#block = block;
    this.#age = 0;
    this.#computed = this.#changing(canvas, block);
    return { canvas, computed: [...canvas.ids.keys()], returnKV: this.#isUseful(canvas) };
  }

  /** @param {KVCache | undefined} kvCache that a full pass returned @param {number[]} entropies of its commits, in nats */
  committed(kvCache, entropies) {
    this.#age++;
    this.#kvCache = kvCache ?? this.#kvCache;
    const limit = this.config.refresh_entropy;
    if (limit && entropies.some((nats) => nats > limit)) this.clear();
  }

  /** Release the cache, which can be in a device's memory. */
  clear() {
    for (const tensor of Object.values(this.#kvCache ?? {})) tensor.dispose();
    this.#kvCache = undefined;
  }

  /** @param {Canvas} canvas @param {number} block @returns {number[]} the places that can change, ascending */
  #changing(canvas, block) {
    const [start, end] = canvas.block(block, this.config.block_length);
    const older = canvas.candidates(start, this.mask);
    return [...older, ...Array.from({ length: end - start }, (_, i) => start + i)];
  }

  /** @param {Canvas} canvas @returns {boolean} whether a full pass's keys and values can be of use */
  #isUseful(canvas) {
    const cached = this.config.cache === "block" && this.config.refresh_steps !== 1;
    return cached && this.#computed.length < canvas.length;
  }
}
