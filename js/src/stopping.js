/**
 * The stop rule, as in `diffutron_ort/text/stopping.py`: where an answer ends, what of it is shown, and when that can
 * change no more.
 *
 * What ends an answer by its ids is `<pad>`, `<eos>` or a stop sequence of the bundle's, as in the graph of the whole
 * generation. What ends it by its text is a stop string of the user's, or a stop sequence of the bundle's that is
 * spelled in other tokens. Whatever is complete first ends it, of several the longest.
 */

import { strip, stripEnd } from "./text.js";

const MOST_BYTES = 4; // of a character in UTF-8
const BYTE = /^<0x([0-9A-F]{2})>$/i;
const UTF8 = { fatal: true, ignoreBOM: true };
const REPLACEMENT = "\ufffd"; // what each byte of a run that is no UTF-8 is decoded to

/**
 * @typedef {{ begin: number, complete: number }} End what ends an answer, in positions of its tokens or letters: where
 *   it begins, and the one behind it
 * @typedef {import("../types/index.js").SpecialIds} SpecialIds
 * @typedef {Pick<import("./tokens.js").Tokens, "decode" | "piece">} Decoder
 */

/** What ends an answer by its ids. */
export class Ends {
  #mask;
  #sequences;

  /** @param {SpecialIds} special @param {number[][]} sequences */
  constructor(special, sequences) {
    this.#mask = special.mask;
    this.#sequences = [[special.pad], [special.eos], ...sequences];
  }

  /** @param {readonly number[]} ids generated tokens @returns {End | undefined} the end that counts among them */
  find(ids) {
    return first(this.#sequences.map((sequence) => ({ begin: place(ids, sequence), length: sequence.length })));
  }

  /** @param {readonly number[]} ids @returns {boolean} whether there is an end with no mask before it */
  hasEnded(ids) {
    return this.find(this.committed(ids)) !== undefined;
  }

  /** @param {readonly number[]} ids @returns {readonly number[]} those before the first mask */
  committed(ids) {
    const mask = ids.indexOf(this.#mask);
    return mask < 0 ? ids : ids.slice(0, mask);
  }

  /** @param {readonly number[]} ids @returns {number} how many at their end may be the beginning of a stop sequence */
  begun(ids) {
    return Math.max(...this.#sequences.map((one) => begun(one.length, (n) => endsWith(ids, one.slice(0, n)))));
  }

  /** @param {readonly number[]} ids @returns {readonly number[]} those that are the answer's */
  answer(ids) {
    return ids.slice(0, this.find(ids)?.begin);
  }
}

/** What ends an answer by its ids or by its text. */
export class StopRule {
  #decoder;
  #mask;
  #own;
  #strings;
  #isStripped;
  #ends;

  /**
   * @param {Decoder} decoder @param {SpecialIds} special
   * @param {{ text: string, ids: number[] }[]} own the bundle's stop sequences
   * @param {readonly string[]} [strings] the user's
   * @param {boolean} [isStripped] whether white space around the answer is left out
   */
  constructor(decoder, special, own, strings = [], isStripped = false) {
    this.#isStripped = isStripped;
    this.#decoder = decoder;
    this.#mask = special.mask;
    this.#own = own;
    this.#strings = strings;
    const sequences = own.map(({ ids }) => ids);
    this.#ends = new Ends(special, sequences);
  }

  /**
   * Return the answer on a canvas whose generated span begins at `start`, without its masks.
   *
   * @param {readonly number[]} ids @param {number} start @returns {string}
   */
  text(ids, start) {
    const text = this.#rawText(ids, start);
    return this.#isStripped ? strip(text) : text;
  }

  /**
   * Return the beginning of `text` that stays, whatever becomes of the masks on a canvas. It grows from step to step, and
   * ends neither within a character nor with what may be the beginning of a stop string, nor with white space.
   *
   * @param {readonly number[]} ids @param {number} start @returns {string}
   */
  settled(ids, start) {
    if (this.isSettled(ids, start) || !ids.slice(start).includes(this.#mask)) return this.text(ids, start);
    const certain = this.#certain(ids.slice(start));
    const more = Array(MOST_BYTES).fill(this.#mask); // whatever follows may complete or break a character
    const text = commonBeginning(this.#beginnings([...certain, ...more], ids[start - 1]));
    const cut = this.#find(text);
    const shown = cut ? this.#before(text, cut) : text.slice(0, text.length - this.#begun(text));
    return this.#isStripped ? strip(shown) : stripEnd(shown);
  }

  /**
   * Return the answer on a canvas, with the white space around it. A stop string may overlap the stop sequence of the
   * bundle's that ends the answer, so it is looked for in both.
   *
   * @param {readonly number[]} ids @param {number} start @returns {string}
   */
  #rawText(ids, start) {
    const generated = ids.slice(start);
    const { begin, complete } = this.#ends.find(generated) ?? {};
    const until = (/** @type {number | undefined} */ end) => this.#decode(generated.slice(0, end), ids[start - 1]);
    const [answer, whole] = [until(begin), until(complete)];
    const cut = this.#find(whole);
    if (!cut || (cut.complete > answer.length && this.#isOwn(whole, cut))) return answer;
    return this.#before(whole, cut);
  }

  /**
   * Whether `text` is the same whatever becomes of the masks on a canvas.
   *
   * @param {readonly number[]} ids @param {number} start @returns {boolean}
   */
  isSettled(ids, start) {
    const generated = ids.slice(start);
    if (this.#ends.hasEnded(generated)) return true;
    if (!this.#strings.length) return false;
    const safe = this.#decode(this.#certain(generated), ids[start - 1]).length;
    return this.#isCut(this.#beginnings(generated, ids[start - 1]), safe);
  }

  /**
   * Whether a stop string can have letters of one of the bundle's own, so that where it cuts an answer cannot be said
   * of the tokens before that: it lies inside of it, or ends with its beginning, as with the space of its first token.
   *
   * @returns {boolean}
   */
  get overlaps() {
    const own = this.#own.map(({ text, ids }) => ({ text, closing: this.#decode(ids) }));
    const texts = own.flatMap(({ closing }) => [closing, closing.replace(/^ /, "")]);
    const overlap = (/** @type {string} */ string, /** @type {string} */ text) =>
      text.includes(string) || [...text].some((_, i, letters) => string.endsWith(letters.slice(0, i + 1).join("")));
    const others = this.#strings.filter((string) => !own.some(({ text }) => text === string));
    return others.some((string) => texts.some((text) => overlap(string, text)));
  }

  /** @param {string} text @returns {number} how many letters at its end may be the beginning of a stop string */
  #begun(text) {
    const strings = [...this.#own.map((own) => own.text), ...this.#strings];
    return Math.max(0, ...strings.map((one) => begun(one.length, (n) => text.endsWith(one.slice(0, n)))));
  }

  /**
   * Return whether every text is cut to the same answer, and more tokens cannot change that. Tokens that have begun a
   * stop sequence of the bundle, after the first `safe` letters, may come to end the answer where they begin, whatever
   * stop sequence is spelled within their text.
   *
   * @param {string[]} texts @param {number} safe @returns {boolean}
   */
  #isCut(texts, safe) {
    const answers = texts.map((text) => {
      const cut = this.#find(text);
      if (!cut || (cut.complete > safe && this.#isOwn(text, cut))) return undefined;
      return this.#before(text, cut);
    });
    return answers.every((answer) => answer !== undefined && answer === answers[0]);
  }

  /** @param {readonly number[]} ids @returns {readonly number[]} those before a mask that begin no stop sequence */
  #certain(ids) {
    const committed = this.#ends.committed(ids);
    return committed.slice(0, committed.length - this.#ends.begun(committed));
  }

  /** @param {string} text @returns {End | undefined} */
  #find(text) {
    const strings = [...this.#own.map((own) => own.text), ...this.#strings];
    return first(strings.map((string) => ({ begin: text.indexOf(string), length: string.length })));
  }

  /** @param {string} text @param {End} cut */
  #isOwn(text, { begin, complete }) {
    return this.#own.some((own) => own.text === text.slice(begin, complete));
  }

  /** @param {string} text @param {End} cut @returns {string} one space before an own one is its first token's */
  #before(text, cut) {
    const shown = text.slice(0, cut.begin);
    return this.#isOwn(text, cut) ? shown.replace(/ $/, "") : shown;
  }

  /**
   * The text of the tokens before the first mask, as it may begin once there are more. It changes only where they end
   * with a run of byte tokens, which is decoded as one: the next byte may complete a character, or make the whole run
   * invalid. (A byte-level decoder shows the beginning of a character as U+FFFD.)
   *
   * @param {readonly number[]} ids @param {number | undefined} previous @returns {string[]}
   */
  #beginnings(ids, previous) {
    const committed = this.#ends.committed(ids);
    const until = (/** @type {number} */ end) => this.#decode(committed.slice(0, end), previous);
    const texts = [until(committed.length)];
    if (committed.length === ids.length) return texts;
    const run = this.#byteRun(committed);
    if (!run.length) return [...texts, texts[0].replace(/\ufffd$/, "")];
    texts.push(until(run[0]) + REPLACEMENT.repeat(run.length + 1));
    const cutOff = cutOffOf(run.map((i) => /** @type {number} */ (this.#byte(committed[i]))));
    const rest = this.#ends.answer(ids).slice(committed.length);
    if (cutOff.length && this.#canGoOn(rest, size(cutOff[0]) - cutOff.length)) {
      texts.push(until(run[run.length - cutOff.length]));
    }
    return texts;
  }

  /** @param {readonly number[]} ids @returns {number[]} where byte tokens end it; those without a text part none */
  #byteRun(ids) {
    const run = [];
    for (let i = ids.length - 1; i >= 0; i--) {
      if (this.#byte(ids[i]) !== undefined) run.unshift(i);
      else if (this.#decode([ids[i]])) break;
    }
    return run;
  }

  /**
   * Whether a run of bytes that wants `missing` more can be valid when `ids`, a mask first, follow.
   *
   * @param {readonly number[]} ids @param {number} missing @returns {boolean}
   */
  #canGoOn(ids, missing) {
    let wants = [missing]; // a mask may become one of them, or nothing, or what ends the run
    for (const id of ids) {
      const byte = this.#byte(id);
      if (id === this.#mask) {
        if (wants.includes(0)) return true;
        wants.push(...wants.map((want) => want - 1));
      } else if (byte === undefined) {
        if (this.#decode([id])) break;
      } else if (byte >= 0x80 && byte < 0xc0) wants = wants.filter(Boolean).map((want) => want - 1);
      else wants = wants.includes(0) ? [size(byte) - 1] : [];
      wants = [...new Set(wants)];
    }
    return wants.includes(0);
  }

  /** @param {number} id @returns {number | undefined} the byte that a token is */
  #byte(id) {
    const found = BYTE.exec(this.#decoder.piece(id));
    return found ? parseInt(found[1], 16) : undefined;
  }

  /** @param {readonly number[]} ids @param {number} [previous] */
  #decode(ids, previous) {
    return this.#decoder.decode(ids, previous);
  }
}

/**
 * The end that is complete first, of several the longest.
 *
 * @param {{ begin: number, length: number }[]} found those that begin at -1 are not there
 * @returns {End | undefined}
 */
function first(found) {
  const there = found.filter(({ begin }) => begin >= 0);
  const ends = there.map(({ begin, length }) => ({ begin, complete: begin + length }));
  return ends.sort((a, b) => a.complete - b.complete || a.begin - b.begin)[0];
}

/** @param {readonly number[]} ids @param {number[]} sequence @returns {number} where it stands first, or -1 */
function place(ids, sequence) {
  return ids.findIndex((_, i) => sequence.every((id, j) => ids[i + j] === id));
}

/**
 * Return how much of an end has begun: the largest n below its length for which `hasBegun`, or 0.
 *
 * @param {number} length @param {(n: number) => boolean} hasBegun whether the first n of it stand at the end
 */
function begun(length, hasBegun) {
  for (let n = length - 1; n > 0; n--) if (hasBegun(n)) return n;
  return 0;
}

/** @param {readonly number[]} ids @param {readonly number[]} sequence @returns {boolean} */
function endsWith(ids, sequence) {
  return sequence.length <= ids.length && sequence.every((id, i) => id === ids[ids.length - sequence.length + i]);
}

/** @param {string[]} texts @returns {string} the longest text that each of them begins with, in whole characters */
function commonBeginning(texts) {
  const [first, ...others] = texts;
  let end = 0;
  while (end < first.length && others.every((text) => text[end] === first[end])) end++;
  return first.slice(0, end).replace(/\p{Surrogate}$/u, "");
}

/** @param {number[]} run bytes @returns {number[]} the beginning of a character at its end; none if it is invalid */
function cutOffOf(run) {
  try {
    const whole = new TextDecoder("utf-8", UTF8).decode(Uint8Array.from(run), { stream: true });
    return run.slice(new TextEncoder().encode(whole).length);
  } catch {
    return [];
  }
}

/** @param {number} lead @returns {number} how many bytes a character has in UTF-8 whose first it is */
function size(lead) {
  return 1 + Number(lead >= 0xc0) + Number(lead >= 0xe0) + Number(lead >= 0xf0);
}
