/** What a browser gives the model: ONNX Runtime, a tokenizer, and the files of a folder on the page's own server. */

import { Files } from "../js/bundle.js";
import { BundleError } from "../js/errors.js";

const LIBRARIES = new URL("node_modules/", import.meta.url);
const TOKENIZERS = "@huggingface/tokenizers/dist/tokenizers.min.mjs";
const RUNTIMES = {
  wasm: "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
  webgpu: "onnxruntime-web/dist/ort.webgpu.bundle.min.mjs",
};
const OPTIONS = {
  enableMemPattern: false, // shapes differ from step to step, and each new one would cost memory
  logSeverityLevel: 3, // errors: that a graphics card leaves bookkeeping to the processor is no news
};
const MOST_THREADS = 4; // more gain nothing, but wait for one another

/** Something that is not there; `kind` says what: a key of the messages in `strings.js`. */
export class HostError extends Error {
  /** @param {string} kind @param {string} message */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** @typedef {{ loaded: number, total: number }} Progress in bytes, of a graph and its weights */

/** @returns {Promise<("webgpu" | "wasm")[]>} what can run a model here, the best first; a simulated graphics card is none */
export async function devices() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter && !adapter.info.isFallbackAdapter ? ["webgpu", "wasm"] : ["wasm"];
}

/**
 * @param {string} folder the bundle's address, with a slash at its end @param {"webgpu" | "wasm"} device
 * @param {number} threads of WebAssembly; 0 is as many as this computer has, up to four
 * @param {(progress: Progress) => void} report is called while a graph and its weights are loaded
 * @returns {Promise<import("../js/diffutron.js").Host>}
 * @throws {HostError} a library is not installed
 */
export async function openHost(folder, device, threads, report) {
  const [ort, { Tokenizer }] = await Promise.all([library(RUNTIMES[device]), library(TOKENIZERS)]);
  ort.env.wasm.numThreads = threads || mostThreads();
  const counts = new Map(); // of the files whose progress is told, the bytes that are there
  const files = new Files((path, most) => read(folder + path, most, (count) => counts.has(path) && tell(path, count)));
  let total = 0;
  const tell = (path, count) => {
    counts.set(path, count);
    report({ loaded: [...counts.values()].reduce((sum, one) => sum + one, 0), total });
  };
  return {
    ort,
    Tokenizer,
    readText: (path) => files.text(path),
    async openSession(graphPath, weightsPath) {
      const sizes = await files.sizes(graphPath, weightsPath);
      total += sizes[0] + sizes[1];
      for (const path of [graphPath, weightsPath]) tell(path, 0);
      const [graph, data] = await Promise.all([files.bytes(graphPath), files.bytes(weightsPath, { hashed: false })]);
      const externalData = [{ path: weightsPath.split("/").at(-1), data }];
      return open(ort, graphPath, graph, { ...OPTIONS, executionProviders: [device], externalData });
    },
  };
}

/** @returns {number} as many threads as can share memory here */
function mostThreads() {
  return globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
}

/** @param {any} ort @param {string} path @param {Uint8Array} graph @param {any} options */
async function open(ort, path, graph, options) {
  try {
    return await ort.InferenceSession.create(graph, options);
  } catch (error) {
    throw new BundleError(`${path} cannot be opened: ${error.message ?? error}`);
  }
}

/** @param {string} path @returns {Promise<any>} */
async function library(path) {
  try {
    return await import(new URL(path, LIBRARIES).href);
  } catch (error) {
    throw new HostError("libraryMissing", `${path}: ${error.message}`);
  }
}

/**
 * @param {string} address @param {number} most bytes, of which one more is an error
 * @param {(count: number) => void} report how many there are so far
 * @returns {Promise<Uint8Array>}
 */
async function read(address, most, report) {
  const answer = await get(address);
  const chunks = [];
  let count = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read().catch((error) => unreachable(address, error));
    if (done) break;
    chunks.push(value);
    report((count += value.length));
    if (count > most) {
      await reader.cancel();
      throw new BundleError(`${address} has more than ${most} bytes; get it again`);
    }
  }
  return joined(chunks, count);
}

/** @param {Uint8Array[]} chunks @param {number} size of all */
function joined(chunks, size) {
  const all = new Uint8Array(size);
  let place = 0;
  for (const chunk of chunks) {
    all.set(chunk, place);
    place += chunk.length;
  }
  return all;
}

/** @param {string} address @returns {Promise<Response>} */
async function get(address) {
  const answer = await fetch(address).catch((error) => unreachable(address, error));
  if (!answer.ok) throw new HostError("modelMissing", `${address}: ${answer.status} ${answer.statusText}`);
  return answer;
}

/** @param {string} address @param {Error} error @returns {never} */
function unreachable(address, error) {
  throw new HostError("unreachable", `${address}: ${error.message}`);
}
