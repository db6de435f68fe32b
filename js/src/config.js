/** How to generate: a generation's options, checked, in layers that override each other. */

import { OptionError } from "./errors.js";
import { MOST_IDS, MOST_STOP, MOST_STOPS, OPTIONS, PRESETS } from "./generated/options.js";
import { shown } from "./text.js";

export { PRESETS };

/**
 * @typedef {import("../types/options.js").Config} Config
 * @typedef {{ type: string, default: any, least?: any, most?: any, orZero?: boolean, choices?: string[] }} Spec
 */

/** @type {Record<string, Spec>} */
const SPECS = OPTIONS;

export const OPTION_NAMES = Object.keys(SPECS);

/** The package's defaults. */
export const DEFAULTS = /** @type {Readonly<Config>} */ (
  Object.freeze(Object.fromEntries(OPTION_NAMES.map((name) => [name, SPECS[name].default])))
);

/** Options with a single value here, where Python has more. */
const ONLY = { stochastic_transfer: false, cfg_scale: 0, cfg_keep_tokens: [], schedule: "linear" };

/** @type {Record<string, (name: string, value: any, spec: Spec) => any>} by an option's type, what returns its value or throws */
const CHECKS = {
  integer,
  bigint,
  number,
  flag: (name, value) => oneOf(name, value, [true, false]),
  choice: (name, value, { choices = [] }) => oneOf(name, value, choices),
  ids,
  strings,
};

/**
 * Return what a preset sets.
 *
 * @param {string} name @returns {Partial<Config>}
 * @throws {OptionError} there is no preset of that name
 */
export function presetOptions(name) {
  oneOf("preset", name, Object.keys(PRESETS));
  return PRESETS[/** @type {import("../types/index.js").PresetName} */ (name)];
}

/**
 * Return all options, each checked.
 *
 * @param {Record<string, unknown>[]} layers each overrides those before it; undefined is not given
 * @returns {Readonly<Config>}
 * @throws {OptionError} a name is unknown, or a value is not allowed
 */
export function makeConfig(layers) {
  /** @type {Record<string, any>} */
  const config = { ...DEFAULTS };
  for (const [name, value] of layers.flatMap(Object.entries)) {
    if (!Object.hasOwn(SPECS, name)) {
      throw new OptionError(`unknown option ${shown(name)}: options are ${[...OPTION_NAMES].sort().join(", ")}`);
    }
    if (value !== undefined) config[name] = CHECKS[SPECS[name].type](name, value, SPECS[name]);
  }
  if (config.commit !== "schedule" && config.remasking === "random") {
    throw new OptionError(
      `commit=${shown(config.commit)}: commits the most certain predictions, and remasking="random" commits others; ` +
        'choose commit="schedule" or remasking="low_confidence"',
    );
  }
  refuseOthers(config, ONLY, "this package has no other; Python has");
  return Object.freeze(/** @type {Config} */ (config));
}

/**
 * Return whether this package has all of these options; some have values that only Python has.
 *
 * @param {Record<string, unknown>} [options] @returns {boolean}
 */
export function hasOptions(options = {}) {
  return Object.entries(ONLY).every(([name, value]) => shown(options[name] ?? value) === shown(value));
}

/**
 * Refuse options with other values than `only`.
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

/** @param {string} name @param {any} value @param {Spec} spec */
function integer(name, value, { least, most }) {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new OptionError(`${name}=${shown(value)}: must be an integer from ${least} to ${most}`);
  }
  return value;
}

/** @param {string} name @param {any} value @param {Spec} spec @returns {bigint} */
function bigint(name, value, { least, most }) {
  const isDigits = typeof value === "string" && /^\d{1,20}$/.test(value);
  const number = isDigits || typeof value === "bigint" || Number.isSafeInteger(value) ? BigInt(value) : least - 1n;
  if (number < least || number > most) {
    throw new OptionError(
      `${name}=${shown(value)}: must be an integer from ${least} to ${most}; beyond ${Number.MAX_SAFE_INTEGER}, ` +
        "give a bigint or digits",
    );
  }
  return number;
}

/** @param {string} name @param {any} value @param {Spec} spec */
function number(name, value, { least, most, orZero }) {
  const isAllowed = (value >= least && value <= most) || (orZero && value === 0);
  if (typeof value !== "number" || !isAllowed) {
    const also = orZero ? ", or 0" : "";
    throw new OptionError(`${name}=${shown(value)}: must be a finite number from ${least} to ${most}${also}`);
  }
  return value;
}

/** @param {string} name @param {any} value @param {readonly any[]} allowed */
function oneOf(name, value, allowed) {
  if (!allowed.includes(value)) {
    throw new OptionError(`${name}=${shown(value)}: must be one of ${allowed.map(shown).join(", ")}`);
  }
  return value;
}

/** @param {string} name @param {any} value @param {Spec} spec */
function ids(name, value, spec) {
  if (!Array.isArray(value)) throw new OptionError(`${name}=${shown(value)}: must be a list of token ids`);
  if (value.length > MOST_IDS) {
    throw new OptionError(`${name} holds more than ${MOST_IDS} ids, and no vocabulary is that large; list each once`);
  }
  return value.map((item) => integer(name, item, spec));
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
