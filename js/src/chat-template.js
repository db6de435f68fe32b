/** Render messages as a prompt, in the chat template of the manifest, as in `diffutron_ort/text/chat_template.py`. */

import { InputError } from "./errors.js";
import { checkText, shown, strip } from "./text.js";

const ROLES = ["system", "user", "assistant"];
const MOST_COMPOSED = 4; // characters that NFC combines into one
// White space, control characters, characters of no width, and a few letters and a symbol that are drawn blank.
const BLANK = /^[\s\x00-\x1f\x7f-\xa0\xad\u115f\u1160\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0]*$/;
// More combining marks in a row than any real text has; composing them can take quadratic time.
const MARKS = /[^\p{L}\p{N}_\x00-\u02ff]{1000}/u;

/**
 * @typedef {import("../types/index.js").Message} Message
 * @typedef {import("../types/index.js").Template} Template
 */

/**
 * Return the prompt that asks the model to answer the last of `messages`.
 *
 * @param {readonly Message[]} messages a content is trimmed and put into NFC; only the first can be a
 *   system message, and the last must be a user message
 * @param {Template} template the text for each role, with `{content}` where the content goes, and what starts the answer
 * @returns {string}
 * @throws {InputError} there are no messages, one cannot be rendered, or a user message has no text
 */
export function renderChat(messages, template) {
  if (!Array.isArray(messages) || !messages.length) {
    throw new InputError(
      `messages=${shown(messages)}: must be a list of at least one message with a role and a content`,
    );
  }
  const rendered = messages.map((message, place) => render(message, place, template));
  const { role } = messages[messages.length - 1];
  if (role !== "user") {
    throw new InputError(`the last message has role ${shown(role)}: it must be the user's, to be answered`);
  }
  return rendered.join("") + template.generation;
}

/**
 * Return a lower bound for the length of the prompt, without rendering it. What cannot be rendered counts as 0.
 *
 * @param {readonly Message[]} messages @param {Template} template @returns {number}
 */
export function leastCharacters(messages, template) {
  const least = (/** @type {Message} */ message) => {
    const { role, content } = message ?? {};
    if (!ROLES.includes(role) || typeof content !== "string") return 0;
    const parts = template[/** @type {"system" | "user" | "assistant"} */ (role)].split("{content}");
    const inner = Math.floor(strip(content).length / MOST_COMPOSED);
    return parts.reduce((sum, part) => sum + part.length, 0) + (parts.length - 1) * inner;
  };
  return Array.isArray(messages) ? messages.reduce((sum, message) => sum + least(message), 0) : 0;
}

/**
 * Return a text in Unicode NFC, as in the training data. A text with more than a thousand combining marks in a row is
 * returned as it is.
 *
 * @param {string} text @returns {string}
 */
export function composed(text) {
  return MARKS.test(text) ? text : text.normalize("NFC");
}

/**
 * Return whether a text has no visible character.
 *
 * @param {string} text
 */
export function isBlank(text) {
  return BLANK.test(text);
}

/** @param {Message} message @param {number} place @param {Template} template */
function render(message, place, template) {
  if (!message || Object.keys(message).sort().join() !== "content,role") {
    throw new InputError(`message ${place} is ${shown(message)}: must have a role and a content, and nothing else`);
  }
  const { role, content } = message;
  if (!ROLES.includes(role)) {
    throw new InputError(`message ${place} has role ${shown(role)}: must be one of ${ROLES.join(", ")}`);
  }
  if (role === "system" && place > 0) {
    throw new InputError(`message ${place} has role "system": only the first message can have it`);
  }
  checkText(content, `content of message ${place}`);
  const text = strip(content);
  if (role === "user" && isBlank(text)) {
    throw new InputError(`message ${place} is the user's and has no text: write a question`);
  }
  // Not `replace`, which gives `$` in the content a meaning.
  return template[/** @type {"system" | "user" | "assistant"} */ (role)].split("{content}").join(composed(text));
}
