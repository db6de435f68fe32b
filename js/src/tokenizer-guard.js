/**
 * Check the normalizer, pre-tokenizer and decoder of a tokenizer.json before they run, as in
 * `diffutron_ort/text/tokenizer_guard.py`.
 */

import * as guard from "./generated/tokenizer-guard.js";

const { MOST_STEPS, MOST_GROWTH } = guard;
const UNSUPPORTED = ["UnicodeScripts"]; // by the library in JavaScript

/** @type {Record<string, number>} the most output characters per input character, of a step */
const GROWTH = guard.GROWTH;
/** @type {Record<string, number>} the reverse; infinite where characters are removed */
const SHRINKAGE = guard.SHRINKAGE;
/** @type {Record<string, string>} under which name a sequence of each part holds its steps */
const NESTED = guard.NESTED;
/** @type {Record<string, string[]>} the types of the steps that each part may have */
const ALLOWED = guard.ALLOWED;

/**
 * @typedef {any} Step an object of tokenizer.json
 * @typedef {object} Pipeline
 * @property {"never" | "missing" | "always"} prefix whether each stretch of text (at the start, or after an added token)
 *   is given a leading space; `missing`: only where it does not begin with one
 * @property {boolean} strips whether the decoder removes characters at the ends of its input
 * @property {number} shrinkage the most characters of a text that can become one character of the model's input
 */

/**
 * @param {any} specification a tokenizer.json, parsed
 * @returns {Pipeline}
 * @throws {Error} a step has a type that no bundle uses, might run for ever, or can make a text too long
 */
export function checkPipeline(specification) {
  /** @type {Record<string, Step[]>} */
  const steps = {};
  for (const part of Object.keys(ALLOWED)) {
    steps[part] = flattened(part, specification[part], 0);
    if (steps[part].length > MOST_STEPS) throw new Error(`its ${part} has more than ${MOST_STEPS} steps`);
    const growth = steps[part].reduce((product, step) => product * growthOf(part, step), 1);
    if (!(growth <= MOST_GROWTH)) throw new Error(`its ${part} can make a text more than ${MOST_GROWTH} times longer`);
  }
  const before = [...steps.normalizer, ...steps.pre_tokenizer];
  const prepends = before.some((step) => step.type === "Prepend" && /^[▁ ]$/.test(step.prepend));
  const adds = before.some((step) => step.prepend_scheme === "always" || step.add_prefix_space === true);
  return {
    prefix: prepends ? "always" : adds ? "missing" : "never",
    strips: steps.decoder.some((step) => step.type === "Strip" || step.prepend_scheme === "always"),
    shrinkage: before.reduce((product, step) => product * shrinkageOf(step), 1),
  };
}

/** @param {string} part @param {Step | null | undefined} step @param {number} depth @returns {Step[]} */
function flattened(part, step, depth) {
  if (step === null || step === undefined) return [];
  if (depth > MOST_STEPS) throw new Error(`its ${part} has sequences in sequences`);
  if (step.type !== "Sequence") return [step];
  return step[NESTED[part]].flatMap((/** @type {Step} */ inner) => flattened(part, inner, depth + 1));
}

/** @param {string} part @param {Step} step @returns {number} the most characters that it can make of one */
function growthOf(part, step) {
  const allowed = ALLOWED[part].filter((type) => !UNSUPPORTED.includes(type));
  if (!allowed.includes(step.type)) {
    throw new Error(`its ${part} has a step ${step.type}; allowed here are ${allowed.join(", ")}`);
  }
  if (step.prepend_scheme === "first") throw new Error(`its ${part} has prepend_scheme "first"`);
  if (step.pattern && !step.pattern.String) {
    throw new Error(`its ${part} has a ${step.type} with a regular expression, or an empty pattern`);
  }
  if (step.type === "Replace") return Math.max(1, step.content.length / step.pattern.String.length);
  return step.type === "Prepend" ? 1 + step.prepend.length : (GROWTH[step.type] ?? 1);
}

/** @param {Step} step @returns {number} the most characters that it can turn into one */
function shrinkageOf(step) {
  if (step.type === "Replace") return Math.max(1, step.pattern.String.length / step.content.length);
  return step.behavior === "Removed" ? Infinity : (SHRINKAGE[step.type] ?? 1);
}
