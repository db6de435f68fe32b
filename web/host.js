/** What the page gives the model: the libraries beside it, and a bundle on the page's own server. */

import { webHost } from "../js/src/web.js";

const LIBRARIES = new URL("node_modules/", import.meta.url);
const TOKENIZERS = "@huggingface/tokenizers/dist/tokenizers.min.mjs";
const RUNTIMES = {
  wasm: "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
  webgpu: "onnxruntime-web/dist/ort.webgpu.bundle.min.mjs",
};

/** An error of the page's own; `kind` is a key of the messages in `strings.js`. */
export class HostError extends Error {
  /** @param {string} kind @param {string} message */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** @returns {Promise<("webgpu" | "wasm")[]>} what can run a model here, the best first; a simulated graphics card cannot */
export async function devices() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter && !adapter.info.isFallbackAdapter ? ["webgpu", "wasm"] : ["wasm"];
}

/**
 * @param {string} folder the bundle's address @param {"webgpu" | "wasm"} device
 * @param {number} threads of WebAssembly; 0 leaves the number to the host
 * @param {(progress: import("../js/types/web.js").Progress) => void} onProgress
 * @returns {Promise<import("../js/types/index.js").Host>}
 * @throws {HostError} a library is not installed
 */
export async function openHost(folder, device, threads, onProgress) {
  const [ort, { Tokenizer }] = await Promise.all([library(RUNTIMES[device]), library(TOKENIZERS)]);
  return webHost({ ort, Tokenizer, folder, device, threads, onProgress });
}

/** @param {string} path @returns {Promise<any>} */
async function library(path) {
  try {
    return await import(new URL(path, LIBRARIES).href);
  } catch (error) {
    throw new HostError("libraryMissing", `${path}: ${error.message}`);
  }
}
