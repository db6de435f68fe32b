/** The model in this browser: it runs in a worker, so that the page stays responsive while a pass computes. */

import { ModelError } from "./model.js";

const NANO = "../models/nano/";

/** A `Model` as `model.js` describes it. */
export class Model {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  /** @type {(progress: import("../js/types/web.js").Progress) => void} is called while the model loads */
  #report = () => {};
  /** @type {{ resolve: (value: any) => void, reject: (error: Error) => void }[]} the calls that wait for an answer, in order */
  #waiting = [];

  constructor() {
    this.#worker.onmessage = ({ data: { value, error, progress } }) => {
      if (progress) return this.#report(progress);
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
   * Load the bundle that the page's address names, which must be on the page's server.
   *
   * @param {(progress: import("../js/types/web.js").Progress) => void} report
   * @returns {Promise<import("./model.js").Loaded>}
   */
  async load(report) {
    this.#report = report;
    const asked = new URLSearchParams(location.search);
    const folder = new URL(`${asked.get("model") ?? NANO}/`.replace(/\/+$/, "/"), location.href);
    if (folder.origin !== location.origin) throw new ModelError("elsewhere", folder.href);
    const [variant, device, threads] = ["variant", "device", "threads"].map((name) => asked.get(name) ?? undefined);
    const where = { folder: folder.href, variant, device, threads: Number(threads ?? 0) }; // 0: the host's choice
    const { bundle, presets, runsOn } = await this.#call("load", where);
    const runs = (/** @type {any} */ words) => words[runsOn.device](runsOn.threads);
    return { name: bundle.source.name, context: bundle.context_length, presets, runs };
  }

  /**
   * Check the last of `messages` and the options, and return its answer.
   *
   * @param {import("./model.js").Message[]} messages @param {import("./model.js").Options} options
   * @returns {Promise<import("./model.js").Answer>}
   */
  async ask(messages, options) {
    const config = await this.#call("begin", messages.at(-1).content, options);
    return { config, steps: this.#steps() };
  }

  /** @returns {AsyncGenerator<import("./frames.js").Step>} */
  async *#steps() {
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
