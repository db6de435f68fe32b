/** `onnx/generate.onnx`, running: the whole of generation in one call. */

import { refuseOthers } from "./config.js";
import { OptionError } from "./errors.js";
import { GENERATION_INPUTS, GENERATION_OUTPUTS } from "./generated/contract.js";
import { checkNames, tensors } from "./session.js";

/** Options with a single value in the graph, where `stream` has more. `stop` concerns text, and is applied after it. */
const ONLY = {
  remasking: "low_confidence",
  early_end: true,
  suppress_tokens: [],
  penalty_exempt: [],
  cache: "none",
  commit: "schedule",
};

export class Generator {
  #ort;
  #session;

  /**
   * @param {import("./session.js").Ort} ort @param {import("./session.js").InferenceSession} session
   * @throws {import("./errors.js").BundleError} the graph is not a generator
   */
  constructor(ort, session) {
    checkNames(session, GENERATION_INPUTS, GENERATION_OUTPUTS, "generator");
    this.#ort = ort;
    this.#session = session;
  }

  /**
   * @param {import("./config.js").Config} config
   * @throws {OptionError} an option has a value that the graph does not have
   */
  static check(config) {
    refuseOthers(config, ONLY, "generate has no other; use stream");
  }

  /** @param {import("./config.js").Config} config @returns {boolean} whether the graph has all of these options */
  static has(config) {
    try {
      Generator.check(config);
      return true;
    } catch (error) {
      if (error instanceof OptionError) return false;
      throw error;
    }
  }

  /**
   * @param {number[]} promptIds @param {import("./config.js").Config} config
   * @param {number[][]} stops sequences that end the answer, as `<pad>` and `<eos>` always do
   * @returns {Promise<{ ids: number[], stepsTaken: number }>} the ids of prompt and answer, `<pad>` after its end
   */
  async run(promptIds, config, stops) {
    const longest = stops.reduce((most, ids) => Math.max(most, ids.length), 1);
    const given = {
      prompt_ids: promptIds,
      max_new_tokens: [config.max_new_tokens],
      steps: [config.steps],
      block_length: [config.block_length],
      temperature: [config.temperature],
      repetition_penalty: [config.repetition_penalty],
      seed: [config.seed], // from 2^63 on it wraps to its two's complement, as the graph expects
      stop_ids: stops.flatMap((ids) => [...ids, ...Array(longest - ids.length).fill(-1)]),
    };
    const sizes = { length: promptIds.length, stops: stops.length, longest };
    const { ids, steps_taken } = await this.#session.run(tensors(this.#ort, GENERATION_INPUTS, given, sizes));
    return { ids: Array.from(ids.data, Number), stepsTaken: Number(steps_taken.data[0]) };
  }
}
