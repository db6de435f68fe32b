/** Text to token ids and back, as in `diffutron_ort/text/tokenizer.py`. */

import { BundleError } from "./errors.js";
import { checkPipeline } from "./tokenizer-guard.js";
import { checkText, shown } from "./text.js";

const CONTROL = /^(<(pad|eos|bos|unk|mask|start_of_turn|end_of_turn|2mass|unused\d+)>|\[@BOS@\])$/;
const BYTE = /^<0x([0-9A-F]{2})>$/;
const SAMPLE = "[Question]\nİyi ki ışık var: ağaç, 12 + 5?\n[/Question]\n\n";
const MOST_PIECE = 4096; // the upper bound that is assumed for the characters of one token
const FLAGS = ["single_word", "lstrip", "rstrip"];
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * @typedef {{ id: number, content: string, special: boolean } & Record<string, unknown>} AddedToken
 * @typedef {import("../types/index.js").TokenizerClass} TokenizerClass
 */

/** A bundle's tokenizer. User text never becomes control tokens: `<mask>` and the like are encoded as characters. */
export class Tokens {
  #library;
  #specification;
  #pipeline;
  #vocabSize;
  #controls;
  #added;
  /** @type {number | undefined} */
  #longest;
  /** @type {number[]} */
  #anchor = [];

  /**
   * @param {TokenizerClass} Tokenizer of the package "@huggingface/tokenizers"
   * @param {any} specification the bundle's tokenizer.json, parsed
   * @param {import("./bundle.js").Bundle} bundle
   * @throws {BundleError} the file does not fit the model, might run for ever, or has a part that is not supported here
   */
  constructor(Tokenizer, specification, bundle) {
    const [controls, others] = guarded(() => divided(specification.added_tokens));
    this.#specification = specification;
    this.#pipeline = guarded(() => checkPipeline(specification));
    this.#library = guarded(() => new Tokenizer(withoutControls(specification, others), {}));
    this.#vocabSize = bundle.vocab_size;
    this.#controls = new Map(controls.map((token) => [token.id, token.content]));
    this.#added = new Set(others.map((token) => token.id));
    for (const [name, id] of Object.entries(bundle.special_ids)) {
      if (this.piece(id) !== `<${name}>`) {
        throw new BundleError(`tokenizer.json has not <${name}> at ${id}, where the manifest says: they do not fit`);
      }
    }
    if (this.#pipeline.strips) this.#anchor = [this.#findAnchor()];
  }

  /**
   * Return the ids of `text`, without `<bos>` or `<eos>`.
   *
   * @param {string} text @returns {number[]}
   * @throws {import("./errors.js").InputError} `text` is not a string, or has a lone surrogate
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
   * Return the least number of tokens that a text of a length can have.
   *
   * @param {number} characters of UTF-16
   */
  leastTokens(characters) {
    this.#longest ??= this.#findLongest();
    return Math.ceil(characters / this.#longest);
  }

  /**
   * Return the text of `ids`, which follow the token `previous`, without control tokens.
   *
   * A piece after an added token (a run of newlines, a tag) decodes with a leading space. It is dropped where the
   * tokenizer puts one before every stretch of text, since it is not the text's.
   *
   * @param {readonly number[]} ids @param {number} [previous]
   */
  decode(ids, previous) {
    let text = "";
    let afresh = previous !== undefined && this.#added.has(previous);
    for (const run of runs(ids, (id) => this.#added.has(id))) {
      const part = this.#decodeRun(run);
      text += afresh ? this.#withoutPrefix(part) : part;
      afresh = this.#added.has(run[0]);
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
    // A decoder that strips the ends of its input strips the anchors, not the text between them.
    const [anchor] = this.#anchor;
    const around = anchor === undefined ? 0 : this.piece(anchor).length;
    const text = this.#decodeAlone([...this.#anchor, ...ids, ...this.#anchor]);
    return text.slice(around, text.length - around);
  }

  /** @param {number[]} ids */
  #decodeAlone(ids) {
    return this.#library.decode(ids, { clean_up_tokenization_spaces: false });
  }

  /** @returns {number} a token whose whole piece is decoded wherever it stands */
  #findAnchor() {
    const isWhole = (/** @type {number} */ id) => this.#decodeAlone([id, id]) === this.piece(id) + this.piece(id);
    const found = [...this.#added, ...this.encode(SAMPLE)].find(isWhole);
    if (found === undefined) throw new BundleError("tokenizer.json has a decoder that changes every piece");
    return found;
  }

  /** @param {string} text */
  #withoutPrefix(text) {
    const { prefix } = this.#pipeline;
    return prefix === "always" || (prefix === "missing" && text[1] !== " ") ? text.replace(/^ /, "") : text;
  }

  /** @returns {number} the most characters of a text that one token can stand for */
  #findLongest() {
    const { model, added_tokens } = this.#specification;
    const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
    // Without all bytes, one token can stand for any number of characters that are unknown.
    if (!model.byte_fallback || !bytes.every((byte) => Object.hasOwn(model.vocab, byte))) return MOST_PIECE;
    let longest = 1;
    for (const piece of Object.keys(model.vocab)) longest = Math.max(longest, piece.length);
    for (const { content } of added_tokens) longest = Math.max(longest, content.length);
    return Math.min(Math.floor(longest * this.#pipeline.shrinkage), MOST_PIECE);
  }

  /**
   * Decode a run of bytes as the original library does. The one in JavaScript drops a byte order mark, and replaces
   * invalid UTF-8 by fewer characters than there are bytes.
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
  const others = added.filter((token) => !isControl(token));
  for (const token of others) {
    const flag = FLAGS.find((name) => token[name]);
    if (flag) throw new Error(`its token ${shown(token.content)} has ${flag}, which is not supported here`);
  }
  return [added.filter(isControl), others];
}

/**
 * Return what `call` returns; turn whatever it throws into a `BundleError`.
 *
 * @template T @param {() => T} call @returns {T}
 */
function guarded(call) {
  try {
    return call();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new BundleError(`tokenizer.json cannot be used: ${message}; export the model again`);
  }
}

/**
 * Return the specification of a tokenizer that finds no control tokens in a text.
 *
 * The library has no switch like `encode_special_tokens`, so the control tokens are left out. It also ignores the
 * `split` of `Metaspace`, without which merges could cross the spaces between words, so another step splits them.
 *
 * @param {any} specification @param {AddedToken[]} added the tokens that stay
 */
function withoutControls(specification, added) {
  const { pre_tokenizer: own } = specification;
  const splits = own?.type === "Metaspace" && own.split !== false;
  const words = { type: "Split", pattern: { Regex: "▁[^▁]*|[^▁]+" }, behavior: "Isolated", invert: true };
  const divide = splits ? { type: "Sequence", pretokenizers: [own, words] } : own;
  return { ...specification, added_tokens: added, pre_tokenizer: divide, post_processor: null };
}

/**
 * Return the stretches of ids with the same key.
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
