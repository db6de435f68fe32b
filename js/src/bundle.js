/** A bundle: its files, each checked before it is used, and its manifest. */

import { OPTION_NAMES, makeConfig } from "./config.js";
import { BundleError, OptionError } from "./errors.js";
import { shown } from "./text.js";

const FORMAT = 2;
const MANIFEST = "diffutron.json";
const MOST_BYTES = 64 * 2 ** 20; // of a manifest
const MOST = 2 ** 31 - 1; // of a count or an id
const INSIDE = /^(?!\.\.?(\/|$))[^/\\:\0]+(\/(?!\.\.?(\/|$))[^/\\:\0]+)*$/; // a relative path that stays in its folder

/**
 * @typedef {import("../types/index.js").Bundle} Bundle
 * @typedef {import("../types/index.js").Variant} Variant
 *
 * @typedef {(path: string) => Promise<string>} ReadText
 * @typedef {(path: string, most: number) => Promise<Uint8Array>} ReadBytes a host's reader: it returns a file of at
 *   most `most` bytes, or throws a `BundleError`
 */

/** Reads a bundle's files, and refuses those that do not match the manifest. */
export class Files {
  #read;
  /** @type {Promise<{ text: string, bundle: Bundle }> | undefined} */
  #manifest;

  /** @param {ReadBytes} read */
  constructor(read) {
    this.#read = read;
  }

  /**
   * Return the sizes of files, as the manifest lists them.
   *
   * @param {string[]} paths @returns {Promise<number[]>}
   * @throws {BundleError} the manifest does not list one
   */
  async sizes(...paths) {
    const { bundle } = await this.#listing();
    return paths.map((path) => listed(bundle, path).size);
  }

  /**
   * Read a file.
   *
   * @param {string} path @param {{ hashed?: boolean }} [options] whether to compare the SHA-256 as well, which takes a
   *   second for a gigabyte of weights
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   * @throws {BundleError} the file does not match the manifest
   */
  async bytes(path, { hashed = true } = {}) {
    const { bundle } = await this.#listing();
    const { size, sha256 } = listed(bundle, path);
    const bytes = /** @type {Uint8Array<ArrayBuffer>} */ (await this.#read(path, size));
    checkSize(path, bytes.length, size);
    if (hashed && (await hash(bytes)) !== sha256) {
      throw new BundleError(`${path} was changed: its SHA-256 is not that of ${MANIFEST}; get it again`);
    }
    return bytes;
  }

  /** @type {ReadText} */
  async text(path) {
    return path === MANIFEST ? (await this.#listing()).text : decode(path, await this.bytes(path));
  }

  #listing() {
    this.#manifest ??= this.#readListing();
    return this.#manifest;
  }

  async #readListing() {
    const text = decode(MANIFEST, await this.#read(MANIFEST, MOST_BYTES));
    return { text, bundle: parseManifest(text) };
  }
}

/**
 * @param {string} path @param {number} found @param {number} size in bytes
 * @throws {BundleError} the two differ
 */
export function checkSize(path, found, size) {
  if (found !== size) throw new BundleError(`${path} has ${found} bytes, not ${size}: it was cut or replaced; get it again`);
}

/**
 * Read and check the manifest.
 *
 * @param {ReadText} readText @returns {Promise<Bundle>}
 * @throws {BundleError} the manifest is malformed, or has another format
 */
export async function readManifest(readText) {
  return parseManifest(await readText(MANIFEST));
}

/**
 * Return the generation options in which a model differs from the defaults. The file may hold other settings as well.
 *
 * @param {ReadText} readText @returns {Promise<Record<string, unknown>>}
 * @throws {BundleError} the file holds a value that is not allowed
 */
export async function readOptions(readText) {
  const name = "generation_config.json";
  const content = object(parse(name, await readText(name)), name);
  const names = OPTION_NAMES.filter((option) => (content[option] ?? null) !== null);
  const options = Object.fromEntries(names.map((option) => [option, content[option]]));
  try {
    makeConfig([options]);
  } catch (error) {
    throw error instanceof OptionError ? new BundleError(`${name}: ${error.message}`) : error;
  }
  return options;
}

/** @param {string} name @param {string} text @returns {any} */
export function parse(name, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BundleError(`${name} cannot be read: ${error}; export the model again`);
  }
}

/**
 * Return a variant.
 *
 * @param {Bundle} bundle @param {string} [name] the most exact one unless given
 * @returns {Variant}
 * @throws {OptionError} the bundle has no variant of that name
 */
export function findVariant(bundle, name) {
  const names = Object.keys(bundle.variants);
  const found = name ?? byExactness(bundle)[0];
  if (!names.includes(found)) {
    throw new OptionError(`variant=${shown(name)}: the bundle has ${names.sort().join(", ")}; export it to add one`);
  }
  return bundle.variants[found];
}

/** @param {Bundle} bundle @returns {string[]} its variants, the exact ones first, by their error; then the others */
function byExactness({ variants }) {
  const error = (/** @type {string} */ name) => {
    const found = variants[name].fidelity?.max_abs_over_std;
    return typeof found === "number" ? found : Number.MAX_VALUE;
  };
  return Object.keys(variants).sort((a, b) => error(a) - error(b));
}

/** @param {string} text @returns {Bundle} */
function parseManifest(text) {
  const manifest = object(parse(MANIFEST, text), MANIFEST);
  checkFormat(manifest);
  for (const name of ["context_length", "vocab_size", "layers", "hidden_size"]) {
    wanted(isWhole(manifest[name], 1), name, manifest[name], "a positive integer");
  }
  wanted(isText(object(manifest.source, "source").name), "source.name", manifest.source.name, "a string");
  checkSpecial(manifest);
  checkTemplate(object(manifest.chat_template, "chat_template"));
  for (const stop of list(manifest.stop_sequences, "stop_sequences")) checkStop(object(stop, "stop_sequences"));
  checkVocabulary(manifest);
  checkFiles(manifest);
  return /** @type {any} */ (manifest);
}

/** @param {any} manifest @throws {BundleError} another release wrote it; says what helps */
function checkFormat({ format, source }) {
  if (format === FORMAT) return;
  const name = /^[\w.][\w./-]*$/.test(source?.name ?? "") ? source.name : "SOURCE";
  const remedy = format > FORMAT ? "upgrade this package" : `export the model again: diffutron-ort export ${name} OUT`;
  throw new BundleError(`${MANIFEST} has format ${shown(format)}, and this package reads format ${FORMAT}; ${remedy}`);
}

/** @param {any} manifest */
function checkSpecial({ special_ids: ids, vocab_size: size }) {
  for (const name of ["pad", "eos", "bos", "unk", "mask"]) {
    const id = object(ids, "special_ids")[name];
    wanted(isWhole(id, 0, size - 1), `special_ids.${name}`, id, `an id below ${size}`);
  }
  wanted(new Set(Object.values(ids)).size === Object.keys(ids).length, "special_ids", ids, "different ids");
}

/** @param {any} template */
function checkTemplate(template) {
  for (const role of ["system", "user", "assistant", "generation"]) {
    const isRight = isText(template[role]) && (role === "generation" || template[role].includes("{content}"));
    wanted(isRight, `chat_template.${role}`, template[role], "a string, with {content} for a message");
  }
}

/** @param {any} stop */
function checkStop({ text, ids }) {
  wanted(isText(text) && text !== "", "stop_sequences.text", text, "a string that is not empty");
  wanted(list(ids, "stop_sequences.ids").length > 0, "stop_sequences.ids", ids, "at least one id");
  wanted(ids.every((/** @type {unknown} */ id) => isWhole(id, 0)), "stop_sequences.ids", ids, "ids");
}

/** @param {any} manifest */
function checkVocabulary({ output_vocabulary: ids, vocab_size: size, special_ids: special }) {
  if ((ids ?? null) === null) return;
  const isAscending = list(ids, "output_vocabulary").every((id, i) => isWhole(id, i ? ids[i - 1] + 1 : 0, size - 1));
  wanted(isAscending, "output_vocabulary", ids, "ascending ids of the vocabulary");
  const missing = Object.values(special).filter((id) => !ids.includes(id));
  wanted(!missing.length, "output_vocabulary", ids, `among others the special ids ${missing.join(", ")}`);
}

/** @param {any} manifest */
function checkFiles({ files, variants }) {
  for (const [path, file] of Object.entries(object(files, "files"))) {
    wanted(INSIDE.test(path), "files", path, "names of files in the bundle's folder");
    const { size, sha256 } = object(file, `files.${path}`);
    wanted(isWhole(size, 0, Number.MAX_SAFE_INTEGER), `files.${path}.size`, size, "a number of bytes");
    wanted(isText(sha256) && /^[0-9a-f]{64}$/.test(sha256), `files.${path}.sha256`, sha256, "64 hexadecimal digits");
  }
  const all = Object.entries(object(variants, "variants"));
  wanted(all.length > 0, "variants", variants, "at least one");
  for (const [name, variant] of all) {
    const { graph, weights, generate } = object(variant, `variants.${name}`);
    for (const path of [graph, weights, ...((generate ?? null) === null ? [] : [generate])]) {
      wanted(isText(path) && Object.hasOwn(files, path), `variants.${name}`, path, "a name that files lists");
    }
  }
}

/** @param {Bundle} bundle @param {string} path */
function listed(bundle, path) {
  if (!Object.hasOwn(bundle.files, path)) throw new BundleError(`${path} is not among the files of ${MANIFEST}`);
  return bundle.files[path];
}

/**
 * @param {boolean} isRight @param {string} name @param {unknown} value @param {string} expected
 * @throws {BundleError} it is not right
 */
function wanted(isRight, name, value, expected) {
  if (isRight) return;
  const said = String(shown(value)).slice(0, 80);
  throw new BundleError(`${MANIFEST}: ${name} is ${said}, expected ${expected}; export the model again`);
}

/** @param {any} value @param {string} name @returns {Record<string, any>} */
function object(value, name) {
  wanted(typeof value === "object" && value !== null && !Array.isArray(value), name, value, "an object");
  return value;
}

/** @param {any} value @param {string} name @returns {any[]} */
function list(value, name) {
  wanted(Array.isArray(value), name, value, "a list");
  return value;
}

/** @param {unknown} value @param {number} least @param {number} [most] */
function isWhole(value, least, most = MOST) {
  return typeof value === "number" && Number.isInteger(value) && least <= value && value <= most;
}

/** @param {unknown} value @returns {value is string} */
function isText(value) {
  return typeof value === "string" && !/\p{Surrogate}/u.test(value);
}

/** @param {string} path @param {Uint8Array} bytes */
function decode(path, bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new BundleError(`${path} is not UTF-8; export the model again`);
  }
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<string>} their SHA-256 in hexadecimal */
async function hash(bytes) {
  const { subtle } = globalThis.crypto;
  if (!subtle) throw new BundleError("files cannot be checked here: open the page by https, or at 127.0.0.1");
  const digest = new Uint8Array(await subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
