import assert from "node:assert/strict";
import { test } from "node:test";
import { BundleError, Diffutron, NumericsError } from "../src/diffutron.js";
import { DENOISER_INPUTS, DENOISER_OUTPUTS } from "../src/generated/contract.js";
import { Session } from "../src/session.js";
import { nodeHost } from "../src/node.js";
import { NANO, QUIET } from "./python.js";

const [INPUTS, OUTPUTS] = [DENOISER_INPUTS, DENOISER_OUTPUTS].map((values) => // of a graph with one layer
  Object.entries(values).map(([name, value]) => ("perLayer" in value ? `${name}.0` : name)),
);
const isKept = (/** @type {string} */ name) => /^(key|value)\./.test(name);

const LAYERS = JSON.parse(await nodeHost(NANO, QUIET).readText("diffutron.json")).layers;

/** @typedef {(feeds: any, names: string[], run: () => Promise<any>) => Promise<any>} Around */

/** @param {Around} around every pass @returns {Promise<Diffutron>} the embedded model */
function modelWith(around) {
  const host = nodeHost(NANO, QUIET);
  const openSession = async (/** @type {string} */ graph, /** @type {string} */ weights) => {
    const session = await host.openSession(graph, weights);
    const run = (/** @type {any} */ feeds, /** @type {any} */ names) =>
      around(feeds, names, () => session.run(feeds, names));
    return { inputNames: session.inputNames, outputNames: session.outputNames, run };
  };
  return Diffutron.load({ ...host, openSession });
}

test("logits get a column for every piece", async () => {
  const { ort } = nodeHost(NANO, QUIET);
  const tensor = (/** @type {number[]} */ values, /** @type {number[]} */ dims) =>
    new ort.Tensor("float32", Float32Array.from(values), dims);
  const two = tensor([0, 0], [2]);
  const outputs = {
    top_ids: new ort.Tensor("int64", BigInt64Array.of(4n, 9n), [2, 1]),
    top_logits: tensor([2, 6], [2, 1]),
    rest: two,
    rest_tempered: two,
    entropy: two,
    logits: tensor([1, 2, 3, 4, 5, 6], [2, 3]),
  };
  const graph = { inputNames: INPUTS, outputNames: OUTPUTS, run: async () => outputs };
  const bundle = /** @type {any} */ ({ layers: 1, hidden_size: 2, vocab_size: 6, output_vocabulary: [0, 3, 5] });
  const pass = {
    inputIds: [4, 4],
    positionIds: [0, 1],
    rows: [0, 1],
    seenIds: [],
    suppressIds: [],
    repetitionPenalty: 1,
    temperature: 1,
    wantLogits: true,
    wantEntropy: false,
    returnKV: false,
  };
  const { topIds, logits } = await new Session(ort, graph, bundle).run(pass);
  assert.deepEqual(topIds, [[4], [9]]);
  const [no, wide] = [-Infinity, logits?.map((row) => [...row])];
  assert.deepEqual(wide, [
    [1, no, no, 2, no, 3],
    [4, no, no, 5, no, 6],
  ]);
  const renamed = { ...graph, outputNames: OUTPUTS.slice(1) };
  assert.throws(() => new Session(ort, renamed, bundle), BundleError);
});

test("keys and values are handed from pass to pass as they are, and let go of", async () => {
  /** @type {any[]} */
  const kept = [];
  const read = new Set();
  let released = 0;
  const model = await modelWith(async (feeds, names, run) => {
    const past = Object.keys(feeds).filter((name) => /^past_(key|value)\./.test(name));
    assert.equal(past.length, 2 * LAYERS);
    const isCached = feeds[past[0]].dims[1] > 0;
    if (isCached) past.forEach((name) => read.add(feeds[name]));
    const outputs = await run();
    assert.equal(names.filter(isKept).length, isCached ? 0 : 2 * LAYERS);
    for (const tensor of names.filter(isKept).map((name) => outputs[name])) {
      kept.push(tensor);
      tensor.dispose = () => released++;
    }
    return outputs;
  });
  let cached = 0;
  for await (const { numComputed, ids } of model.stream("On iki artı beş kaç eder?", {
    cache: "block",
    refresh_steps: 3,
  })) {
    cached += Number(numComputed < ids.length);
  }
  assert.ok(cached > 3);
  assert.equal(released, kept.length);
  for (const tensor of read) assert.ok(kept.includes(tensor));
});

test("what is left of an answer is let go of where its reader leaves", async () => {
  let held = 0;
  const model = await modelWith(async (_feeds, names, run) => {
    const outputs = await run();
    for (const tensor of names.filter(isKept).map((name) => outputs[name])) {
      held++;
      tensor.dispose = () => held--;
    }
    return outputs;
  });
  for await (const _ of model.stream("Merhaba", { preset: "fast", early_end: false })) {
    assert.equal(held, 2 * LAYERS);
    break;
  }
  assert.equal(held, 0);
});

test("logits that are not finite are an error", async () => {
  for (const name of ["top_logits", "rest", "rest_tempered", "entropy"]) {
    const model = await modelWith(async (_feeds, _names, run) => {
      const outputs = await run();
      outputs[name].data[0] = NaN;
      return outputs;
    });
    await assert.rejects(model.stream("Merhaba", { commit: "entropy" }).next(), NumericsError);
    if (name === "entropy") await model.stream("Merhaba").next(); // nobody wants it
  }
});

test("a bundle of another format, or one that is no JSON, is refused", async () => {
  const host = nodeHost(NANO, QUIET);
  for (const [text, remedy] of [
    ['{"format": 3}', /format 3.*upgrade/],
    ['{"format": 1, "source": {"name": "a/b"}}', /format 1.*diffutron-ort export a\/b OUT/],
    ['{"format": 1, "source": {"name": "a; b"}}', /diffutron-ort export SOURCE OUT/],
    ["{", /cannot be read/],
  ]) {
    const loaded = Diffutron.load({ ...host, readText: async () => String(text) });
    await assert.rejects(loaded, (error) => error instanceof BundleError && RegExp(remedy).test(error.message));
  }
});

test("a bundle without the graph of the whole says so", async () => {
  const host = nodeHost(NANO, QUIET);
  const readText = async (/** @type {string} */ path) => {
    const text = await host.readText(path);
    return path === "diffutron.json" ? text.replaceAll('"generate":', '"other":') : text;
  };
  const model = await Diffutron.load({ ...host, readText });
  await assert.rejects(model.generate("Merhaba"), /no generate graph.*use stream/);
});
