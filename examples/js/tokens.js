/** Text to token ids and back, as `diffutron_ort/tokens.py` does it. */

import { BundleError } from "./errors.js";
import { checkText, isSpace } from "./text.js";

const CONTROL = /^(<(pad|eos|bos|unk|mask|start_of_turn|end_of_turn|2mass|unused\d+)>|\[@BOS@\])$/;
const BYTE = /^<0x([0-9A-F]{2})>$/;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * @typedef {{ id: number, content: string, special: boolean }} AddedToken
 * @typedef {object} Library what is used of Hugging Face's tokenizer in JavaScript
 * @property {(text: string, options: object) => { ids: number[] }} encode
 * @property {(ids: number[], options: object) => string} decode
 * @property {(id: number) => string | undefined} id_to_token
 * @property {(token: string) => number | undefined} token_to_id
 * @typedef {new (specification: object, config: object) => Library} TokenizerClass
 */

/** The tokenizer of a bundle. Text that a user typed cannot become control tokens, but is encoded letter by letter. */
export class Tokens {
  #library;
  #vocabSize;
  #controls;
  #breaks;

  /**
   * @param {TokenizerClass} Tokenizer of the package "@huggingface/tokenizers"
   * @param {any} specification the bundle's tokenizer.json, parsed
   * @param {import("./bundle.js").Bundle} bundle
   * @throws {BundleError} it does not fit the model
   */
  constructor(Tokenizer, specification, bundle) {
    const [controls, others] = divided(specification.added_tokens);
    this.#library = new Tokenizer(withoutControls(specification, others), {});
    this.#vocabSize = bundle.vocab_size;
    this.#controls = new Map(controls.map((token) => [token.id, token.content]));
    this.#breaks = new Set(others.filter((token) => isSpace(token.content)).map((token) => token.id));
    for (const [name, id] of Object.entries(bundle.special_ids)) {
      if (this.piece(id) !== `<${name}>`) {
        throw new BundleError(`tokenizer.json has not <${name}> at ${id}, where the manifest says: they do not fit`);
      }
    }
  }

  /**
   * The ids of `text`, without `<bos>` or `<eos>`.
   *
   * @param {string} text @returns {number[]}
   * @throws {import("./errors.js").InputError} it is not a string, or has a lone surrogate
   */
  encode(text) {
    checkText(text);
    const { ids } = this.#library.encode(text, { add_special_tokens: false });
    const beyond = ids.find((id) => id >= this.#vocabSize);
    if (beyond !== undefined) {
      throw new BundleError(`tokenizer.json has a piece with id ${beyond}, the model has ${this.#vocabSize}`);
    }
    return ids;
  }

  /**
   * The text of `ids`, which follow the token `previous`, control tokens left out.
   *
   * The one space that a piece after a run of newlines or tabs decodes to is dropped: it is none of the text's, but the
   * pre-tokenizer's, which puts one before every stretch of text that has none.
   *
   * @param {readonly number[]} ids @param {number} [previous]
   */
  decode(ids, previous) {
    let text = "";
    let afterBreak = previous !== undefined && this.#breaks.has(previous);
    for (const run of runs(ids, (id) => this.#breaks.has(id))) {
      const part = this.#decodeRun(run);
      text += afterBreak && /^ (?! )/.test(part) ? part.slice(1) : part;
      afterBreak = this.#breaks.has(run[0]);
    }
    return text;
  }

  /** @param {number} id @returns {string} what a token looks like on its own, with ▁ for the space before a word */
  piece(id) {
    return this.#controls.get(id) ?? this.#library.id_to_token(id) ?? "";
  }

  /** @param {number[]} ids */
  #decodeRun(ids) {
    const pieces = ids.filter((id) => !this.#controls.has(id) && this.piece(id));
    const isByte = (/** @type {number} */ id) => BYTE.test(this.piece(id));
    return runs(pieces, isByte)
      .map((run) => (isByte(run[0]) ? this.#decodeBytes(run) : this.#decodePieces(run)))
      .join("");
  }

  /** @param {number[]} ids */
  #decodePieces(ids) {
    return this.#library.decode(ids, { clean_up_tokenization_spaces: false });
  }

  /**
   * The library's own way differs from the original's: it swallows a byte order mark, and replaces what is no UTF-8 by
   * fewer characters than there are bytes.
   *
   * @param {number[]} ids of bytes
   */
  #decodeBytes(ids) {
    const bytes = ids.map((id) => parseInt(this.piece(id).slice(3, 5), 16));
    try {
      return UTF8.decode(Uint8Array.from(bytes));
    } catch {
      return "\ufffd".repeat(bytes.length);
    }
  }
}

/** @param {AddedToken[]} added @returns {[AddedToken[], AddedToken[]]} the control tokens, and the others */
function divided(added) {
  const isControl = (/** @type {AddedToken} */ token) => token.special || CONTROL.test(token.content);
  return [added.filter(isControl), added.filter((token) => !isControl(token))];
}

/**
 * The specification of a tokenizer that takes no control tokens out of a text.
 *
 * The library has nothing like `encode_special_tokens`, so it is not told of them. Nor does it divide words as
 * `Metaspace` asks to with `split`, without which merges could cross the spaces between them.
 *
 * @param {any} specification @param {AddedToken[]} added the tokens that stay
 */
function withoutControls(specification, added) {
  const { pre_tokenizer: own } = specification;
  const splits = own?.type === "Metaspace" && own.split !== false;
  const words = { type: "Split", pattern: { Regex: "▁[^▁]*|[^▁]+" }, behavior: "Isolated", invert: true };
  const divide = splits ? { type: "Sequence", pretokenizers: [own, words] } : own;
  return { ...specification, added_tokens: added, pre_tokenizer: divide };
}

/**
 * Stretches of ids with the same key.
 *
 * @param {readonly number[]} ids @param {(id: number) => boolean} key
 */
function runs(ids, key) {
  /** @type {number[][]} */
  const found = [];
  ids.forEach((id, i) => {
    if (i && key(id) === key(ids[i - 1])) found[found.length - 1].push(id);
    else found.push([id]);
  });
  return found;
}
