/** Runs the model: each message is a call, answered in turn by its value or its error. */

import { findVariant } from "../js/bundle.js";
import { DEFAULTS } from "../js/config.js";
import { Diffutron, PRESETS } from "../js/diffutron.js";
import { HostError, devices, openHost } from "./host.js";

const KINDS = { InputError: "tooLong", OptionError: "option", BundleError: "broken" };

/** @type {Diffutron} */
let model;
/** @type {AsyncGenerator<import("../js/denoise.js").Step>} */
let steps;

/** @type {Record<string, (...given: any[]) => any>} */
const calls = {
  async load({ folder, variant, device, threads }) {
    const candidates = device ? [device] : await devices();
    for (const candidate of candidates) {
      try {
        const host = await openHost(folder, candidate, threads);
        model = await Diffutron.load(host, { variant });
        if (candidate === "webgpu") await replay(host, variant);
        const presets = Object.fromEntries(Object.keys(PRESETS).map((name) => [name, model.config(name)]));
        return { bundle: model.bundle, presets, device: candidate, threads: host.ort.env.wasm.numThreads };
      } catch (error) {
        if (candidate === candidates.at(-1)) throw error;
        console.warn(`${candidate}: ${error.message}`);
      }
    }
  },

  begin(prompt, preset, options) {
    steps = model.stream(prompt, { preset, ...options });
    return model.config(preset, options);
  },

  async next() {
    const begun = performance.now();
    const { value: step } = await steps.next();
    const seconds = (performance.now() - begun) / 1000;
    return step && { ...step, pieces: step.tokens.map((/** @type {number} */ id) => model.piece(id)), seconds };
  },

  async end() {
    await steps.return(undefined);
  },
};

/**
 * Take the steps of a generation that the bundle recorded: what a graphics card cannot do, it may do wrong without a word.
 *
 * @param {import("../js/diffutron.js").Host} host @param {string} [variant]
 * @throws {HostError} they are others
 */
async function replay(host, variant) {
  const { generations } = JSON.parse(await host.readText("conformance.json"));
  const graph = findVariant(model.bundle, variant);
  const recorded = generations.find((one) => one.exact && model.bundle.variants[one.variant] === graph);
  const taken = [];
  for await (const { positions, tokens } of model.stream(recorded.prompt, { ...DEFAULTS, ...recorded.options })) {
    taken.push({ positions, tokens });
  }
  if (JSON.stringify(taken) !== JSON.stringify(recorded.steps)) {
    throw new HostError("untrue", `"${recorded.prompt}" does not take the steps in conformance.json`);
  }
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
