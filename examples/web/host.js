/** What a browser gives the model: ONNX Runtime, a tokenizer, and the files of a folder on the page's own server. */

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

/** Something that is not there; `kind` says what: a key of the messages in `strings.js`. */
export class HostError extends Error {
  /** @param {string} kind @param {string} message */
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

/** @returns {Promise<("webgpu" | "wasm")[]>} what can run a model here, the best first; a simulated graphics card is none */
export async function devices() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter && !adapter.info.isFallbackAdapter ? ["webgpu", "wasm"] : ["wasm"];
}

/**
 * @param {string} folder the bundle's address, with a slash at its end @param {"webgpu" | "wasm"} device
 * @param {number} threads of WebAssembly; 0 is as many as ONNX Runtime thinks best
 * @returns {Promise<import("../js/diffutron.js").Host>}
 * @throws {HostError} a library is not installed
 */
export async function openHost(folder, device, threads) {
  const [ort, { Tokenizer }] = await Promise.all([library(RUNTIMES[device]), library(TOKENIZERS)]);
  ort.env.wasm.numThreads = threads;
  return {
    ort,
    Tokenizer,
    readText: async (path) => (await get(folder + path)).text(),
    async openSession(graphPath, weightsPath) {
      const [graph, data] = await Promise.all([graphPath, weightsPath].map((path) => bytes(folder + path)));
      const externalData = [{ path: weightsPath.split("/").at(-1), data }];
      return ort.InferenceSession.create(graph, { ...OPTIONS, executionProviders: [device], externalData });
    },
  };
}

/** @param {string} path @returns {Promise<any>} */
async function library(path) {
  try {
    return await import(new URL(path, LIBRARIES).href);
  } catch (error) {
    throw new HostError("libraryMissing", `${path}: ${error.message}`);
  }
}

/** @param {string} address */
async function bytes(address) {
  return new Uint8Array(await (await get(address)).arrayBuffer());
}

/** @param {string} address @returns {Promise<Response>} */
async function get(address) {
  const answer = await fetch(address).catch((error) => {
    throw new HostError("unreachable", `${address}: ${error.message}`);
  });
  if (!answer.ok) throw new HostError("modelMissing", `${address}: ${answer.status} ${answer.statusText}`);
  return answer;
}
