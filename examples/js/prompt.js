/** Messages to prompt text: the chat template that the model was taught with, as the manifest has it. */

import { InputError } from "./errors.js";
import { checkText, shown, strip } from "./text.js";

const ROLES = ["system", "user", "assistant"];

/**
 * @typedef {{ role: string, content: string }} Message
 * @typedef {{ system: string, user: string, assistant: string, generation: string }} Template
 */

/**
 * The prompt that asks the model to answer the last of `messages`.
 *
 * @param {Message[]} messages a content is trimmed; only the first can be the system's, and the last must be the user's
 * @param {Template} template what each role's message becomes, with `{content}` in its place, and what asks for more
 * @returns {string}
 * @throws {InputError} there is no message, or one cannot be rendered
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
  // Not `replace`, to which a `$` in the content says something.
  return template[/** @type {"system" | "user" | "assistant"} */ (role)].split("{content}").join(strip(content));
}
