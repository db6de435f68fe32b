/** What a pass computes of a sequence: every token, or those that can have changed since a full pass. */

/**
 * @typedef {import("./canvas.js").Canvas} Canvas
 * @typedef {import("./session.js").Kept} Kept
 *
 * @typedef {object} View one sequence as a pass sees it
 * @property {Canvas} canvas
 * @property {number[]} computed the places that the pass computes, ascending
 * @property {Kept} [kept] keys and values of a full pass, for the places that are not computed
 * @property {boolean} keep whether later passes want this one's
 */

/**
 * Decides, pass by pass, what is computed, and holds what a full pass left for the next ones.
 *
 * While a block is active, only its own tokens change, and masks before it that were left over: a cached pass computes
 * these. Those among them that have been committed since go on being computed, for the full pass saw their masks.
 */
export class Passes {
  #block = -1;
  #age = 0; // passes since the last full one, and itself
  /** @type {number[]} */
  #computed = [];
  /** @type {Kept | undefined} */
  #kept;

  /** @param {import("./config.js").Config} config @param {number} mask */
  constructor(config, mask) {
    this.config = config;
    this.mask = mask;
  }

  /** @param {Canvas} canvas @param {number} block @returns {View} of the next pass while `block` is active */
  view(canvas, block) {
    if (this.#kept && block === this.#block && this.#age !== this.config.refresh_steps) {
      return { canvas, computed: this.#computed, kept: this.#kept, keep: false };
    }
    this.release(); // so that its memory serves the pass that replaces it
    this.#block = block;
    this.#age = 0;
    this.#computed = this.#changing(canvas, block);
    return { canvas, computed: [...canvas.ids.keys()], keep: this.#willBeOfUse(canvas) };
  }

  /** @param {Kept | undefined} kept of a full pass @param {number[]} entropies of the tokens that it led to, in nats */
  committed(kept, entropies) {
    this.#age++;
    this.#kept = kept ?? this.#kept;
    const limit = this.config.refresh_entropy;
    if (limit && entropies.some((nats) => nats > limit)) this.release();
  }

  /** Let go of keys and values, which can lie in a device's memory. */
  release() {
    this.#kept?.key.dispose();
    this.#kept?.value.dispose();
    this.#kept = undefined;
  }

  /** @param {Canvas} canvas @param {number} block @returns {number[]} the places that can change, ascending */
  #changing(canvas, block) {
    const [start, end] = canvas.block(block, this.config.block_length);
    const older = canvas.candidates(start, this.mask);
    return [...older, ...Array.from({ length: end - start }, (_, i) => start + i)];
  }

  /** @param {Canvas} canvas @returns {boolean} whether a later pass will be a cached one, as far as can be known */
  #willBeOfUse(canvas) {
    const cached = this.config.cache === "block" && this.config.refresh_steps !== 1;
    return cached && this.#computed.length < canvas.length;
  }
}
