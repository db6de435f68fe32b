/** The model, which runs in a worker, so that the page stays responsive while a pass computes. */

/** An error from the worker; its `kind` is a key of the messages in `strings.js`. */
export class ModelError extends Error {
  /** @param {string} kind @param {string} [message] */
  constructor(kind, message = "") {
    super(message);
    this.kind = kind;
  }
}

/**
 * @typedef {import("../js/types/index.js").Config} Config
 * @typedef {object} Loaded
 * @property {import("../js/types/index.js").Bundle} bundle
 * @property {Record<string, Config>} presets
 * @property {"webgpu" | "wasm"} device
 * @property {number} threads of WebAssembly
 */

export class Model {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  /** @type {{ resolve: (value: any) => void, reject: (error: Error) => void }[]} the calls that wait for an answer, in order */
  #waiting = [];

  /** @param {(progress: import("../js/types/web.js").Progress) => void} report is called while the model loads */
  constructor(report) {
    this.#worker.onmessage = ({ data: { value, error, progress } }) => {
      if (progress) return report(progress);
      const { resolve, reject } = this.#waiting.shift();
      if (error) reject(new ModelError(error.kind, error.message));
      else resolve(value);
      return undefined;
    };
    this.#worker.onerror = ({ message }) => {
      for (const { reject } of this.#waiting.splice(0)) reject(new ModelError("failed", message));
    };
  }

  /**
   * @param {{ folder: string, variant?: string, device?: string, threads: number }} where `threads` 0 is the host's choice
   * @returns {Promise<Loaded>}
   */
  load(where) {
    return this.#call("load", where);
  }

  /**
   * Check a question and its options, without answering it yet.
   *
   * @param {string} prompt @param {string} preset @param {object} options
   * @returns {Promise<Config>} every option
   */
  begin(prompt, preset, options) {
    return this.#call("begin", prompt, preset, options);
  }

  /**
   * Answer the question that `begin` has checked; leaving the loop ends the generation.
   *
   * @returns {AsyncGenerator<import("./frames.js").Step>}
   */
  async *steps() {
    try {
      for (let step; (step = await this.#call("next")); ) yield step;
    } finally {
      await this.#call("end");
    }
  }

  /** @param {string} name @param {unknown[]} given @returns {Promise<any>} */
  #call(name, ...given) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage({ name, given });
    });
  }
}
