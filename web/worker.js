/** Runs the model. Each message is a call, answered in turn with its value or its error; loading also reports progress. */

import { findVariant } from "../js/src/bundle.js";
import { DEFAULTS, hasOptions } from "../js/src/config.js";
import { BundleError, Diffutron, PRESETS } from "../js/src/diffutron.js";
import { endOf } from "./ending.js";
import { HostError, devices, openHost } from "./host.js";

const KINDS = {
  ContextError: "tooLong",
  InputError: "input",
  OptionError: "option",
  BundleError: "broken",
  MissingFileError: "modelMissing",
  NetworkError: "unreachable",
};
const LEAST_SAME = 0.9; // of a quantized variant's tokens: processors round differently
const REPLAYED = 3; // recorded generations; a graphics card that computes wrongly already does so in the first

/** @type {Diffutron} */
let model;
/** @type {AsyncGenerator<import("../js/types/index.js").Step>} */
let steps;

/** @type {Record<string, (...given: any[]) => any>} */
const calls = {
  async load({ folder, variant, device, threads }) {
    const candidates = device ? [device] : await devices();
    for (const candidate of candidates) {
      try {
        const host = await openHost(folder, candidate, threads, (progress) => postMessage({ progress }));
        model = await Diffutron.load(host, { variant });
        if (candidate === "webgpu") await replay(host, variant);
        const presets = Object.fromEntries(Object.keys(PRESETS).map((name) => [name, model.config(name)]));
        return { bundle: model.bundle, presets, runsOn: { device: candidate, threads: host.ort.env.wasm.numThreads } };
      } catch (error) {
        if (candidate === candidates.at(-1)) throw error;
        console.warn(`${candidate}: ${error.message}`);
      }
    }
  },

  begin(prompt, { preset, ...options }) {
    steps = model.stream(prompt, { preset, ...options });
    return model.config(preset, options);
  },

  async next() {
    const begun = performance.now();
    const { value: step } = await steps.next();
    return step && { ...onPage(step), seconds: (performance.now() - begun) / 1000 };
  },

  async end() {
    await steps.return(undefined);
  },
};

/** @param {import("../js/types/index.js").Step} step @returns {Omit<import("./frames.js").Step, "seconds">} */
function onPage({ positions, tokens, confidence, ids, start, text }) {
  return {
    positions: positions.map((position) => position - start),
    pieces: tokens.map((id) => model.piece(id)),
    confidence,
    beyond: endOf(ids.slice(start), model.bundle),
    text,
  };
}

/**
 * Repeat generations that the bundle recorded, because a graphics card may compute wrongly without an error. An exact
 * one must take the same steps; a quantized variant has none, and most of its tokens must match.
 *
 * @param {import("../js/types/index.js").Host} host @param {string} [variant]
 * @throws {HostError} they differ, or none is recorded
 */
async function replay(host, variant) {
  const graph = findVariant(model.bundle, variant);
  const own = (await recorded(host)).filter(
    (one) => model.bundle.variants[one.variant] === graph && hasOptions(one.options),
  );
  const exact = own.filter((one) => one.exact).slice(0, 1);
  if (!own.length) throw new HostError("unchecked", "conformance.json has no generation of this variant");
  for (const one of exact) {
    if (JSON.stringify(await retaken(one)) !== JSON.stringify(one.steps)) {
      throw new HostError("untrue", `"${one.prompt}" does not take the steps in conformance.json`);
    }
  }
  if (exact.length) return;
  const shares = [];
  for (const one of own.slice(0, REPLAYED)) shares.push(share(await retaken(one), one.steps));
  const mean = shares.reduce((sum, one) => sum + one) / shares.length;
  if (!(mean >= LEAST_SAME)) {
    throw new HostError("untrue", `${mean.toFixed(2)} of the tokens are those in conformance.json, not ${LEAST_SAME}`);
  }
}

/** @param {import("../js/types/index.js").Host} host @returns {Promise<any[]>} the bundle's generations */
async function recorded(host) {
  try {
    const { generations } = JSON.parse(await host.readText("conformance.json"));
    return Array.isArray(generations) ? generations : [];
  } catch (error) {
    if (error instanceof BundleError && model.bundle.files["conformance.json"]) throw error; // it was changed
    if (error instanceof BundleError || error instanceof SyntaxError) return [];
    throw error;
  }
}

/** @typedef {{ positions: number[], tokens: number[] }} Committed by one step */

/** @param {any} one a recorded generation @returns {Promise<Committed[]>} what it commits here */
async function retaken({ prompt, template, options }) {
  const taken = [];
  for await (const { positions, tokens } of model.stream(prompt, { template, ...DEFAULTS, ...options })) {
    taken.push({ positions, tokens });
  }
  return taken;
}

/**
 * @param {Committed[]} taken @param {Committed[]} wanted
 * @returns {number} the share of the wanted tokens that are at their places
 */
function share(taken, wanted) {
  const places = (/** @type {Committed[]} */ all) =>
    new Map(all.flatMap(({ positions, tokens }) => positions.map((position, i) => [position, tokens[i]])));
  const [found, right] = [places(taken), [...places(wanted)]];
  return right.filter(([position, token]) => found.get(position) === token).length / right.length;
}

let turn = Promise.resolve();
onmessage = ({ data: { name, given } }) => {
  turn = turn.then(async () => {
    try {
      postMessage({ value: await calls[name](...given) });
    } catch (error) {
      postMessage({ error: { kind: error.kind ?? KINDS[error.name] ?? "failed", message: error.message ?? `${error}` } });
    }
  });
};
