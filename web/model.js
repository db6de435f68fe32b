/** What a model is to the page, whether it runs in this browser (`browser.js`) or on the page's server (`server.js`). */

/**
 * @typedef {{ role: "system" | "user" | "assistant", content: string }} Message
 *
 * @typedef {object} Config the options of a generation that the page shows something of, under the library's names
 * @property {number} steps
 * @property {number} max_new_tokens
 * @property {number} block_length
 * @property {number} temperature
 * @property {string} commit
 *
 * @typedef {{ preset: string, seed: string, temperature: number }} Options the seed in digits, since it may have 64 bits
 *
 * @typedef {object} Loaded
 * @property {string} name of the model
 * @property {number} context how many tokens a question and its answer can have together
 * @property {Record<string, Config>} presets
 * @property {(words: import("./strings.js").Texts) => string} runs says where it runs
 *
 * @typedef {object} Answer
 * @property {Config} config with the length that the generated span really has
 * @property {AsyncGenerator<import("./frames.js").Step>} steps leaving the loop ends the generation
 * @property {Ending} [ending] is there when the steps have been taken, where the model tells
 *
 * @typedef {{ isFull: boolean, tokens: number }} Ending whether the answer has all the tokens that it could have, and how
 *   many it and its prompt have together
 *
 * @typedef {object} Model
 * @property {(report: (progress: { loaded: number, total: number }) => void) => Promise<Loaded>} load in bytes
 * @property {(messages: Message[], options: Options, signal: AbortSignal) => Promise<Answer>} ask
 */

/** An error of a model; its `kind` is a key of the messages in `strings.js`, which are told its `facts`. */
export class ModelError extends Error {
  /** @param {string} kind @param {string} [message] @param {{ seconds?: number }} [facts] */
  constructor(kind, message = "", facts = {}) {
    super(message);
    Object.assign(this, { kind, facts });
  }
}
