/** What a bundle's manifest says. */

import { BundleError, OptionError } from "./errors.js";
import { OPTION_NAMES, makeConfig } from "./config.js";
import { shown } from "./text.js";

const FORMAT = 1;

/**
 * @typedef {{ graph: string, weights: string, generate?: string }} Variant paths are relative to the bundle
 * @typedef {object} Bundle diffutron.json, parsed
 * @property {number} format
 * @property {number} context_length
 * @property {number} vocab_size
 * @property {number} layers
 * @property {number} hidden_size
 * @property {import("./canvas.js").SpecialIds} special_ids
 * @property {import("./prompt.js").Template} chat_template
 * @property {{ text: string, ids: number[] }[]} stop_sequences what ends an answer
 * @property {number[]} [output_vocabulary] the ids of the columns of `logits`; absent where that is all of them
 * @property {Record<string, Variant>} variants
 *
 * @typedef {(path: string) => Promise<string>} ReadText
 */

/**
 * @param {ReadText} readText @returns {Promise<Bundle>}
 * @throws {BundleError} the manifest is of another format
 */
export async function readManifest(readText) {
  const bundle = parse("diffutron.json", await readText("diffutron.json"));
  if (bundle.format !== FORMAT) {
    throw new BundleError(`diffutron.json has format ${shown(bundle.format)}: these modules read ${FORMAT}`);
  }
  return bundle;
}

/**
 * The generation options in which a model differs from the defaults, of a file that may say other things, too.
 *
 * @param {ReadText} readText @returns {Promise<Record<string, unknown>>}
 */
export async function readOptions(readText) {
  const content = parse("generation_config.json", await readText("generation_config.json"));
  const names = OPTION_NAMES.filter((name) => (content[name] ?? null) !== null);
  const options = Object.fromEntries(names.map((name) => [name, content[name]]));
  makeConfig([options]);
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
 * @param {Bundle} bundle @param {string} [name] fp32, if it is there, unless given
 * @returns {Variant}
 * @throws {OptionError} the bundle has none of that name
 */
export function findVariant(bundle, name) {
  const names = Object.keys(bundle.variants);
  const found = name ?? (names.includes("fp32") ? "fp32" : names[0]);
  if (!names.includes(found)) {
    throw new OptionError(`variant=${shown(name)}: the bundle has ${names.sort().join(", ")}; export it to add one`);
  }
  return bundle.variants[found];
}
