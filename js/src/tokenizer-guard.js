/** What a tokenizer.json does to a text around its model, checked before it is used, as in `text/tokenizer_guard.py`. */

const MOST_STEPS = 16;
const MOST_GROWTH = 64;

/** @type {Record<string, number>} characters that one can become at most */
const GROWTH = { NFC: 3, NFD: 4, NFKC: 18, NFKD: 18, Lowercase: 3, ByteLevel: 4 };
/** @type {Record<string, number>} and of which one can come; without end where some are left out */
const SHRINKAGE = {
  NFC: 4,
  NFKC: 4,
  Strip: Infinity,
  StripAccents: Infinity,
  Whitespace: Infinity,
  WhitespaceSplit: Infinity,
};

/** @type {Record<string, string>} the steps of each part that are known, and under what a sequence has its own */
const INNER = { normalizer: "normalizers", pre_tokenizer: "pretokenizers", decoder: "decoders" };
/** @type {Record<string, string[]>} */
const KNOWN = {
  normalizer: ["Replace", "Prepend", ...Object.keys(GROWTH), "Strip", "StripAccents"],
  pre_tokenizer: ["Metaspace", "Split", "ByteLevel", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"],
  decoder: ["Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "ByteLevel"],
};

/**
 * @typedef {any} Step an object of tokenizer.json
 * @typedef {object} Pipeline
 * @property {"never" | "missing" | "always"} prefix whether a stretch of text, at the start or after an added token,
 *   gets a space of its own; `missing` is where it begins with none
 * @property {boolean} strips whether the decoder takes something off the ends of what it is given
 * @property {number} shrinkage of how many characters of a text one that the model sees can come
 */

/**
 * @param {any} specification a tokenizer.json, parsed
 * @returns {Pipeline}
 * @throws {Error} a step is of a kind that no bundle has, may run for ever, or lets a text grow too much
 */
export function checkPipeline(specification) {
  /** @type {Record<string, Step[]>} */
  const steps = {};
  for (const part of Object.keys(KNOWN)) {
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
  return step[INNER[part]].flatMap((/** @type {Step} */ inner) => flattened(part, inner, depth + 1));
}

/** @param {string} part @param {Step} step @returns {number} into how many characters a step can make one */
function growthOf(part, step) {
  if (!KNOWN[part].includes(step.type)) throw new Error(`its ${part} has a step ${step.type}, which is not known here`);
  if (step.prepend_scheme === "first") throw new Error(`its ${part} has prepend_scheme "first"`);
  if (step.pattern && !step.pattern.String) {
    throw new Error(`its ${part} has a ${step.type} with a regular expression, or an empty pattern`);
  }
  if (step.type === "Replace") return Math.max(1, step.content.length / step.pattern.String.length);
  return step.type === "Prepend" ? 1 + step.prepend.length : (GROWTH[step.type] ?? 1);
}

/** @param {Step} step @returns {number} of how many characters one can come that a step makes */
function shrinkageOf(step) {
  if (step.type === "Replace") return Math.max(1, step.pattern.String.length / step.content.length);
  return step.behavior === "Removed" ? Infinity : (SHRINKAGE[step.type] ?? 1);
}
