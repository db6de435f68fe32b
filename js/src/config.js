/** How to generate: every option's name, default, bounds and preset, as in `diffutron_ort/config.py`. */

import { OptionError } from "./errors.js";
import { shown } from "./text.js";

/** @typedef {import("../types/options.js").Config} Config */

const LEAST_TEMPERATURE = 0.01; // below it exp(logit / temperature) says no more than the best token does
const MOST_STEPS = 2 ** 16;
const MOST_IDS = 2 ** 20; // of a list of ids: four times the largest vocabulary
const MOST_STOPS = 1000;
const MOST_STOP = 10_000; // characters of a stop string: more than any answer has
const MOST = 1000; // of every number that is no integer: long before float32 overflows

/** @type {Record<string, (name: string, value: any) => any>} what is allowed of each option */
const CHECKS = {
  steps: integer(1, MOST_STEPS),
  max_new_tokens: integer(1, 2 ** 31 - 1),
  block_length: integer(1, 2 ** 31 - 1),
  temperature,
  repetition_penalty: number(1 / MOST),
  remasking: oneOf("low_confidence", "random"),
  stochastic_transfer: oneOf(true, false),
  cfg_scale: number(0),
  cfg_keep_tokens: ids,
  schedule: oneOf("linear", "cosine"),
  seed,
  stop: strings,
  early_end: oneOf(true, false),
  suppress_tokens: ids,
  penalty_exempt: ids,
  cache: oneOf("none", "block"),
  refresh_steps: integer(0, MOST_STEPS),
  refresh_entropy: number(0),
  commit: oneOf("schedule", "factor", "entropy"),
  commit_factor: number(0),
  commit_entropy: number(0),
};

export const OPTION_NAMES = Object.keys(CHECKS);

/** @type {Readonly<Config>} the package's defaults */
export const DEFAULTS = {
  steps: 64,
  max_new_tokens: 64,
  block_length: 32,
  temperature: 0.1,
  repetition_penalty: 1.2,
  remasking: "low_confidence",
  stochastic_transfer: false,
  cfg_scale: 0,
  cfg_keep_tokens: [],
  schedule: "linear",
  seed: 0n,
  stop: [],
  early_end: true,
  suppress_tokens: [],
  penalty_exempt: [],
  cache: "none",
  refresh_steps: 0,
  refresh_entropy: 0,
  commit: "schedule",
  commit_factor: 1,
  commit_entropy: 0.1,
};

/** @type {import("../types/index.js").Presets} by name, what a preset that is named sets, also over a bundle's options */
export const PRESETS = {
  short: { steps: 64, max_new_tokens: 64, block_length: 32 },
  long: { steps: 128, max_new_tokens: 128, block_length: 32 },
  fast: { cache: "block", refresh_steps: 4, commit: "factor", commit_factor: 0.01 },
};

/** What these modules do not do, of what Python does. */
const ONLY = { stochastic_transfer: false, cfg_scale: 0, cfg_keep_tokens: [], schedule: "linear", suppress_tokens: [] };

/**
 * What the preset called `name` sets.
 *
 * @param {string} name @returns {Partial<Config>}
 * @throws {OptionError} there is none of that name
 */
export function presetOptions(name) {
  oneOf(...Object.keys(PRESETS))("preset", name);
  return PRESETS[/** @type {import("../types/index.js").PresetName} */ (name)];
}

/**
 * Options with every value checked.
 *
 * @param {Record<string, unknown>[]} layers each overrides those before it; undefined is not given
 * @returns {Readonly<Config>}
 * @throws {OptionError} a name is not an option's, or a value is not allowed
 */
export function makeConfig(layers) {
  /** @type {Record<string, any>} */
  const config = { ...DEFAULTS };
  for (const layer of layers) {
    for (const [name, value] of Object.entries(layer)) {
      if (!Object.hasOwn(CHECKS, name)) {
        throw new OptionError(`unknown option ${shown(name)}: options are ${[...OPTION_NAMES].sort().join(", ")}`);
      }
      if (value !== undefined) config[name] = CHECKS[name](name, value);
    }
  }
  if (config.commit !== "schedule" && config.remasking === "random") {
    throw new OptionError(
      `commit=${shown(config.commit)}: counts the most certain tokens, and remasking="random" commits others; ` +
        'choose commit="schedule" or remasking="low_confidence"',
    );
  }
  refuseOthers(config, ONLY, "these modules have no other; Python has");
  return Object.freeze(/** @type {Config} */ (config));
}

/**
 * Refuse options that have other values than `only`.
 *
 * @param {Record<string, any>} config @param {Record<string, unknown>} only @param {string} why
 * @throws {OptionError}
 */
export function refuseOthers(config, only, why) {
  for (const [name, value] of Object.entries(only)) {
    if (shown(config[name]) !== shown(value)) {
      throw new OptionError(`${name}=${shown(config[name])}: must be ${shown(value)}; ${why}`);
    }
  }
}

/** @param {number} least @param {number} most */
function integer(least, most) {
  return (/** @type {string} */ name, /** @type {any} */ value) => {
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new OptionError(`${name}=${shown(value)}: must be an integer from ${least} to ${most}`);
    }
    return value;
  };
}

/** @param {number} least */
function number(least) {
  return (/** @type {string} */ name, /** @type {any} */ value) => {
    if (typeof value !== "number" || !(value >= least && value <= MOST)) {
      throw new OptionError(`${name}=${shown(value)}: must be a finite number from ${least} to ${MOST}`);
    }
    return value;
  };
}

/** @param {string} name @param {any} value */
function temperature(name, value) {
  number(0)(name, value);
  if (value > 0 && value < LEAST_TEMPERATURE) {
    throw new OptionError(`${name}=${value}: must be 0 or at least ${LEAST_TEMPERATURE}`);
  }
  return value;
}

/** @param {any[]} allowed */
function oneOf(...allowed) {
  return (/** @type {string} */ name, /** @type {any} */ value) => {
    if (!allowed.includes(value)) {
      throw new OptionError(`${name}=${shown(value)}: must be one of ${allowed.map(shown).join(", ")}`);
    }
    return value;
  };
}

/** @param {string} name @param {any} value @returns {bigint} */
function seed(name, value) {
  const digits = typeof value === "string" && /^\d{1,20}$/.test(value);
  const number = digits || typeof value === "bigint" || Number.isSafeInteger(value) ? BigInt(value) : -1n;
  if (number < 0n || number >= 2n ** 64n) {
    throw new OptionError(
      `${name}=${shown(value)}: must be an integer from 0 to ${2n ** 64n - 1n}; beyond ${Number.MAX_SAFE_INTEGER}, ` +
        "give a bigint or digits",
    );
  }
  return number;
}

/** @param {string} name @param {any} value */
function ids(name, value) {
  if (!Array.isArray(value)) throw new OptionError(`${name}=${shown(value)}: must be a list of token ids`);
  if (value.length > MOST_IDS) throw new OptionError(`${name} holds more than ${MOST_IDS} ids: give each once`);
  return value.map((item) => integer(0, 2 ** 31 - 1)(name, item));
}

/** @param {string} name @param {any} value */
function strings(name, value) {
  const list = typeof value === "string" ? [value] : value;
  const isLong = (/** @type {any} */ item) => typeof item === "string" && item.length > MOST_STOP;
  if (Array.isArray(list) && (list.length > MOST_STOPS || list.some(isLong))) {
    throw new OptionError(`${name}: must hold at most ${MOST_STOPS} strings of at most ${MOST_STOP} characters`);
  }
  const isText = (/** @type {any} */ item) => typeof item === "string" && item && !/\p{Surrogate}/u.test(item);
  if (!Array.isArray(list) || !list.every(isText)) {
    throw new OptionError(`${name}=${shown(value)}: must be a list of strings of valid Unicode that are not empty`);
  }
  return [...list];
}
