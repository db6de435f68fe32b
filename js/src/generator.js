/** `onnx/generate.onnx`, running: the whole of generation in one call. */

import { refuseOthers } from "./config.js";
import { OptionError } from "./errors.js";
import { checkNames, int64 } from "./session.js";

const INPUTS = [
  "prompt_ids",
  "max_new_tokens",
  "steps",
  "block_length",
  "temperature",
  "repetition_penalty",
  "seed",
  "stop_ids",
];
const OUTPUTS = ["ids", "answer_length", "steps_taken"];

/** What the graph does not do, of what `stream` does; `stop` is a matter of text, and done after it. */
const ONLY = { remasking: "low_confidence", early_end: true, penalty_exempt: [], cache: "none", commit: "schedule" };

export class Generator {
  #ort;
  #session;

  /**
   * @param {import("./session.js").Ort} ort @param {import("./session.js").InferenceSession} session
   * @throws {import("./errors.js").BundleError} the graph is no generator
   */
  constructor(ort, session) {
    checkNames(session, INPUTS, OUTPUTS, "generator");
    this.#ort = ort;
    this.#session = session;
  }

  /**
   * @param {import("./config.js").Config} config
   * @throws {import("./errors.js").OptionError} an option has a value that the graph knows nothing of
   */
  static check(config) {
    refuseOthers(config, ONLY, "generate has no other; use stream");
  }

  /** @param {import("./config.js").Config} config whether the graph has all of them @returns {boolean} */
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
    const ort = this.#ort;
    const integer = (/** @type {number | bigint} */ value) => int64(ort, [value], []);
    const real = (/** @type {number} */ value) => new ort.Tensor("float32", Float32Array.of(value), []);
    const { ids, steps_taken } = await this.#session.run({
      prompt_ids: int64(ort, promptIds, [1, promptIds.length]),
      max_new_tokens: integer(config.max_new_tokens),
      steps: integer(config.steps),
      block_length: integer(config.block_length),
      temperature: real(config.temperature),
      repetition_penalty: real(config.repetition_penalty),
      seed: integer(config.seed), // beyond 2^63 it wraps to its two's complement, as is meant
      stop_ids: padded(ort, stops),
    });
    return { ids: Array.from(ids.data, Number), stepsTaken: Number(steps_taken.data[0]) };
  }
}

/**
 * Sequences of ids as int64 [k, longest], filled up with -1.
 *
 * @param {import("./session.js").Ort} ort @param {number[][]} sequences
 */
function padded(ort, sequences) {
  const longest = sequences.reduce((most, ids) => Math.max(most, ids.length), 1);
  const rows = sequences.flatMap((ids) => [...ids, ...Array(longest - ids.length).fill(-1)]);
  return int64(ort, rows, [sequences.length, longest]);
}
