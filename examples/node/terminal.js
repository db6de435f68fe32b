/** What a terminal gets to see of texts of others: nothing that steers it. */

// Control characters but newline and tab, what reorders a text, separators of lines, halves of surrogate pairs.
const STEERING = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f]|\p{Surrogate}/gu;

/** @param {string} text @returns {string} without what could steer a terminal */
export function stripped(text) {
  return text.replace(STEERING, "");
}

/** @param {string} text @returns {string} on one line, what could steer a terminal as its code */
export function escaped(text) {
  const code = (/** @type {string} */ found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(/\s*\n\s*/g, " ").replace(STEERING, code);
}
