/** Generated from diffutron_ort/config.py by `python js/generate.py`: options and presets. */

/** By name, an option's type, default and bounds. */
export const OPTIONS = {
  steps: { type: "integer", default: 64, least: 1, most: 65536 },
  max_new_tokens: { type: "integer", default: 64, least: 1, most: 2147483647 },
  block_length: { type: "integer", default: 32, least: 1, most: 2147483647 },
  temperature: { type: "number", default: 0.1, least: 0.01, most: 1000, orZero: true },
  repetition_penalty: { type: "number", default: 1.2, least: 0.001, most: 1000 },
  remasking: { type: "choice", default: "low_confidence", choices: ["low_confidence", "random"] },
  stochastic_transfer: { type: "flag", default: false },
  cfg_scale: { type: "number", default: 0, least: 0, most: 1000 },
  cfg_keep_tokens: { type: "ids", default: [], least: 0, most: 2147483647 },
  schedule: { type: "choice", default: "linear", choices: ["linear", "cosine"] },
  seed: { type: "bigint", default: 0n, least: 0n, most: 18446744073709551615n },
  stop: { type: "strings", default: [] },
  early_end: { type: "flag", default: true },
  suppress_tokens: { type: "ids", default: [], least: 0, most: 2147483647 },
  penalty_exempt: { type: "ids", default: [], least: 0, most: 2147483647 },
  cache: { type: "choice", default: "none", choices: ["none", "block"] },
  refresh_steps: { type: "integer", default: 0, least: 0, most: 65536 },
  refresh_entropy: { type: "number", default: 0, least: 0, most: 1000 },
  commit: { type: "choice", default: "schedule", choices: ["schedule", "factor", "entropy"] },
  commit_factor: { type: "number", default: 1, least: 0, most: 1000 },
  commit_entropy: { type: "number", default: 0.1, least: 0, most: 1000 },
};

/** @type {import("../../types/index.js").Presets} by name, what a preset sets */
export const PRESETS = {
  short: { steps: 64, max_new_tokens: 64, block_length: 32 },
  long: { steps: 128, max_new_tokens: 128, block_length: 32 },
  fast: { cache: "block", refresh_steps: 4, commit: "factor", commit_factor: 0.01 },
};

export const MOST_IDS = 1048576; // in a list of ids
export const MOST_STOPS = 1000; // stop strings
export const MOST_STOP = 10000; // characters in a stop string
