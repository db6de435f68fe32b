/** The model on the server that the page came from, by its API. */

import { eager, events } from "./events.js";
import { keep, recall } from "./kept.js";
import { ModelError } from "./model.js";

const PAUSE = 1000; // milliseconds between two questions whether the server has loaded its model
const CODES = { context_length_exceeded: "talkTooLong", deadline_exceeded: "late" };
const KINDS = { 401: "locked", 404: "elsewhereNow", 413: "tooLarge", 429: "busy", 503: "unready" };

/** A `Model` as `model.js` describes it. */
export class Model {
  #key = recall("sessionStorage", "key");
  /** @type {import("./model.js").Loaded | undefined} */
  #loaded;

  /** Use an API key from now on, in this tab. @param {string} key */
  unlock(key) {
    this.#key = key;
    keep("sessionStorage", "key", key);
  }

  /**
   * Wait until the server has loaded its model, and ask what it is.
   *
   * @returns {Promise<import("./model.js").Loaded>}
   */
  async load() {
    while (await this.#isLoading()) await new Promise((resolve) => setTimeout(resolve, PAUSE));
    const { data } = await (await this.#fetch("v1/models")).json();
    const [{ id: name, diffutron: facts }] = data;
    const runs = (/** @type {any} */ words) => words.server(name);
    return (this.#loaded = { name, context: facts.context_length, presets: facts.presets, runs });
  }

  async #isLoading() {
    try {
      await this.#fetch("ready");
      return false;
    } catch (error) {
      if (error.status !== 503 || error.state === "draining" || error.state === "failed") throw error;
      return true;
    }
  }

  /**
   * @param {import("./model.js").Message[]} messages @param {import("./model.js").Options} options
   * @param {AbortSignal} signal hangs up
   * @returns {Promise<import("./model.js").Answer>}
   */
  async ask(messages, { preset, seed, temperature }, signal) {
    const { name: model, presets } = this.#loaded;
    const stream = { stream: true, diffusing: true, stream_options: { include_usage: true } };
    const body = JSON.stringify({ model, messages, preset, temperature, ...stream, seed: 0 });
    const withSeed = body.replace(/0}$/, `${BigInt(seed)}}`); // JSON of JavaScript has no integers of 64 bits
    const headers = { "Content-Type": "application/json" };
    const response = await this.#fetch("v1/chat/completions", { method: "POST", body: withSeed, headers, signal });
    const chunks = eager(chunksOf(response, signal));
    const { value: first } = await chunks.next();
    const config = { ...presets[preset], max_new_tokens: first.diffutron.length };
    /** @type {import("./model.js").Answer} */
    const answer = { config, steps: stepsOf(chunks, (ending) => (answer.ending = ending)) };
    return answer;
  }

  /** @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} @throws {ModelError} unless it is OK */
  async #fetch(path, init = {}) {
    const headers = { ...init.headers, ...(this.#key && { Authorization: `Bearer ${this.#key}` }) };
    if (/[^ -~]/.test(this.#key ?? "")) throw new ModelError("wrongKey"); // no header can have it
    let response;
    try {
      response = await fetch(new URL(path, location.href), { ...init, headers });
    } catch (error) {
      throw init.signal?.aborted ? error : new ModelError("gone", error.message);
    }
    if (!response.ok) throw await refusal(response, Boolean(this.#key));
    return response;
  }
}

/** @param {Response} response @param {boolean} hasKey whether a key was sent */
async function refusal(response, hasKey) {
  const { error = {}, status: state } = await response.json().catch(() => ({})); // a proxy may have answered
  const seconds = Number(response.headers.get("retry-after")) || undefined;
  const kind = kindOf(response.status, error.code, hasKey);
  const message = response.status === 401 ? "" : error.message; // which is for programs: the page asks for the key
  return Object.assign(new ModelError(kind, message, { seconds }), { status: response.status, state });
}

/** @param {number} status @param {string | null} [code] @param {boolean} [hasKey] */
function kindOf(status, code, hasKey) {
  const kind = CODES[code] ?? KINDS[status] ?? (status < 500 ? "refused" : "failed");
  return kind === "locked" && hasKey ? "wrongKey" : kind;
}

/**
 * The chunks of a streamed answer, each with the seconds since the one before.
 *
 * @param {Response} response @param {AbortSignal} signal @returns {AsyncGenerator<any>}
 * @throws {ModelError} the server failed on the way, or the connection broke
 */
async function* chunksOf(response, signal) {
  try {
    let before = performance.now();
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const now = performance.now();
      const chunk = { ...JSON.parse(data), seconds: (now - before) / 1000 };
      if (chunk.error) throw new ModelError("late", chunk.error.message);
      before = now;
      yield chunk;
    }
  } catch (error) {
    throw error instanceof ModelError || signal.aborted ? error : new ModelError("cut", error.message);
  }
  throw new ModelError("cut");
}

/**
 * @param {AsyncGenerator<any>} chunks @param {(ending: import("./model.js").Ending) => void} end
 * @returns {AsyncGenerator<import("./frames.js").Step>}
 */
async function* stepsOf(chunks, end) {
  let isFull = false;
  for await (const { choices, diffutron, usage, seconds } of chunks) {
    if (diffutron?.positions.length) {
      const { positions, tokens, confidence, beyond } = diffutron;
      const pieces = tokens.map((/** @type {string} */ token) => token.replaceAll(" ", "▁"));
      yield { positions, pieces, confidence, beyond, text: choices[0].delta.content, seconds };
    }
    if (choices[0]?.finish_reason) isFull = choices[0].finish_reason === "length";
    if (usage) end({ isFull, tokens: usage.total_tokens });
  }
}
