/** The host for browsers, against a server in this process and with a stand-in for ONNX Runtime. */

import { Tokenizer } from "@huggingface/tokenizers";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { BundleError, MissingFileError, NetworkError, webHost } from "../src/web.js";
import { NANO } from "./python.js";

const { graph, weights } = JSON.parse(readFileSync(join(NANO, "diffutron.json"), "utf8")).variants.fp32;

/** @type {Map<string, Buffer>} what the server has instead of the bundle's own files */
const replaced = new Map();
const server = createServer(({ url = "" }, answer) => {
  try {
    answer.end(replaced.get(url.slice(1)) ?? readFileSync(join(NANO, url)));
  } catch {
    answer.writeHead(404).end();
  }
});
let folder = "";
before(async () => {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  folder = `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;
});
after(() => server.close());

/** @param {Partial<import("../types/web.js").WebOptions>} [options] */
function open(options) {
  /** @type {{ graph: Uint8Array, options: any }[]} */
  const created = [];
  const create = async (/** @type {Uint8Array} */ graph, /** @type {any} */ options) => {
    created.push({ graph, options });
    return { inputNames: [], outputNames: [], run: async () => ({}) };
  };
  /** @type {any} */
  const ort = { Tensor: class {}, InferenceSession: { create }, env: { wasm: {} } };
  return { host: webHost({ ort, Tokenizer, folder, ...options }), created, wasm: ort.env.wasm };
}

test("a session gets the graph and its weights, and their download is reported", async () => {
  /** @type {import("../types/web.js").Progress[]} */
  const reports = [];
  const { host, created } = open({ device: "webgpu", onProgress: (progress) => reports.push(progress) });
  JSON.parse(await host.readText("tokenizer.json"));
  assert.equal(reports.length, 0); // only graphs and weights are announced
  await host.openSession(graph, weights);
  const [{ graph: bytes, options }] = created;
  assert.deepEqual(Buffer.from(bytes), readFileSync(join(NANO, graph)));
  assert.deepEqual(options.executionProviders, ["webgpu"]);
  const [{ path, data }] = options.externalData;
  assert.equal(path, weights.split("/").at(-1));
  assert.ok(readFileSync(join(NANO, weights)).equals(data));
  const total = bytes.length + data.length;
  assert.deepEqual([reports[0], reports.at(-1)], [{ loaded: 0, total }, { loaded: total, total }]);
  for (const [i, { loaded }] of reports.entries()) assert.ok(i === 0 || loaded >= reports[i - 1].loaded);
});

test("threads are as many as were asked for, and one where memory cannot be shared", () => {
  assert.equal(open({ threads: 3 }).wasm.numThreads, 3);
  assert.equal(open().wasm.numThreads, 1);
});

test("what a server does not have, or sends otherwise, is an error that names the address", async () => {
  await assert.rejects(open({ folder: `${folder}/nowhere/` }).host.readText("diffutron.json"), (/** @type {any} */ error) => {
    return error instanceof MissingFileError && /nowhere\/diffutron.json: 404/.test(error.message);
  });
  await assert.rejects(open({ folder: "http://127.0.0.1:1" }).host.readText("diffutron.json"), NetworkError);
  const { host } = open();
  const text = readFileSync(join(NANO, "tokenizer.json"));
  for (const [bytes, message] of /** @type {[Buffer, RegExp][]} */ ([
    [Buffer.concat([text, text]), /more than \d+ bytes/],
    [text.subarray(1), /bytes, not/],
    [Buffer.from(text).fill(32, 1, 2), /was changed/],
  ])) {
    replaced.set("tokenizer.json", bytes);
    await assert.rejects(host.readText("tokenizer.json"), (/** @type {any} */ error) => {
      return error instanceof BundleError && message.test(error.message);
    });
  }
  await assert.rejects(host.readText("secret.txt"), /not among the files/);
});
