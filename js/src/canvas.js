/** The canvas: a sequence of token ids, some of them masks. */

/** One sequence on its way from masks to text. A canvas never changes: a commit returns a new one. */
export class Canvas {
  /**
   * @param {readonly number[]} ids
   * @param {number} start where the first block, and the generated span, begins
   */
  constructor(ids, start) {
    this.ids = Object.isFrozen(ids) ? ids : Object.freeze([...ids]); // a copy: the caller may change its array
    this.start = start;
  }

  /** @param {number[]} promptIds @param {number} maxNewTokens @param {number} mask */
  static forGeneration(promptIds, maxNewTokens, mask) {
    return new Canvas([...promptIds, ...Array(maxNewTokens).fill(mask)], promptIds.length);
  }

  get length() {
    return this.ids.length;
  }

  /** The tokens from `start` on. */
  get generated() {
    return this.ids.slice(this.start);
  }

  /**
   * Return where a block begins and ends (exclusive), within the canvas.
   *
   * @param {number} index @param {number} blockLength @returns {[number, number]}
   */
  block(index, blockLength) {
    const start = this.start + index * blockLength;
    return [Math.min(start, this.length), Math.min(start + blockLength, this.length)];
  }

  /** @param {number} end @param {number} mask @returns {number[]} positions of the masks before `end`, ascending */
  candidates(end, mask) {
    const positions = [];
    for (let i = 0; i < end; i++) if (this.ids[i] === mask) positions.push(i);
    return positions;
  }

  /** @param {number[]} positions @param {number[]} tokens as many @returns {Canvas} with `tokens` at `positions` */
  commit(positions, tokens) {
    const ids = [...this.ids];
    positions.forEach((position, i) => (ids[position] = tokens[i]));
    return new Canvas(ids, this.start);
  }
}
