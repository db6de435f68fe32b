/** Python's white space, texts without lone surrogates, and values as messages show them. */

import { InputError } from "./errors.js";

// Unlike `\s`, Python's white space lacks U+FEFF, and has the separators U+001C to U+001F and U+0085.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const MOST_SHOWN = 80;
const AT_END = new RegExp(`(?<!${SPACE})${SPACE}+$`);
const AROUND = new RegExp(`^${SPACE}+|(?<!${SPACE})${SPACE}+$`, "g");

/** @param {string} text @returns {string} without the white space around it */
export function strip(text) {
  return text.replace(AROUND, "");
}

/** @param {string} text @returns {string} without the white space at its end */
export function stripEnd(text) {
  return text.replace(AT_END, "");
}

/**
 * Refuse what no tokenizer can encode.
 *
 * @param {unknown} text
 * @param {string} [name] what the message calls it
 * @throws {InputError} `text` is not a string, or has a lone surrogate
 */
export function checkText(text, name = "text") {
  if (typeof text !== "string") throw new InputError(`the ${name} is of type ${typeof text}: must be a string`);
  const lone = /\p{Surrogate}/u.exec(text);
  if (lone) {
    throw new InputError(
      `the ${name} has half of a surrogate pair at position ${lone.index}, which is not valid Unicode: ` +
        "decode the input as UTF-8",
    );
  }
}

/** @param {unknown} value @returns {string} the value as messages show it: as JSON where there is any, and briefly */
export function shown(value) {
  const text = written(value);
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text;
}

/** @param {unknown} value @returns {string} */
function written(value) {
  if (typeof value === "bigint" || typeof value === "number" || value === undefined) return String(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
