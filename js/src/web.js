/** The package in a browser: the sampler, and a host that fetches a bundle's files and runs onnxruntime-web. */

import { Files } from "./bundle.js";
import { BundleError, MissingFileError, NetworkError } from "./errors.js";

export * from "./diffutron.js";

const OPTIONS = {
  enableMemPattern: false, // shapes differ from step to step, and each new one would cost memory
  logSeverityLevel: 3, // errors: on WebGPU, warnings report every operator that runs on the CPU
};
const MOST_THREADS = 4; // more do not make a pass faster

/**
 * Return the host of a bundle at an address.
 *
 * @param {import("../types/web.js").WebOptions} options
 * @returns {import("../types/index.js").Host}
 */
export function webHost({ ort, Tokenizer, folder, device = "wasm", threads = 0, onProgress = () => {} }) {
  ort.env.wasm.numThreads = threads || mostThreads();
  const base = folder.endsWith("/") ? folder : `${folder}/`;
  const progress = new DownloadProgress(onProgress);
  const files = new Files((path, most) => download(base + path, most, (count) => progress.set(path, count)));
  return {
    ort,
    Tokenizer,
    readText: (path) => files.text(path),
    async openSession(graphPath, weightsPath) {
      const sizes = await files.sizes(graphPath, weightsPath);
      progress.expect([graphPath, weightsPath], sizes[0] + sizes[1]);
      const [graph, data] = await Promise.all([files.bytes(graphPath), files.bytes(weightsPath, { hashed: false })]);
      const externalData = [{ path: /** @type {string} */ (weightsPath.split("/").at(-1)), data }];
      return open(ort, graphPath, graph, { ...OPTIONS, executionProviders: [device], externalData });
    },
  };
}

/** Counts the bytes of the files whose download is reported: graphs and their weights. */
class DownloadProgress {
  /** @type {Map<string, number>} */
  #counts = new Map();
  #total = 0;
  #report;

  /** @param {(progress: import("../types/web.js").Progress) => void} report */
  constructor(report) {
    this.#report = report;
  }

  /** @param {string[]} paths @param {number} bytes of all of them */
  expect(paths, bytes) {
    this.#total += bytes;
    for (const path of paths) this.#counts.set(path, 0);
    this.set(paths[0], 0);
  }

  /** @param {string} path @param {number} count bytes so far; ignored for a file that was not announced */
  set(path, count) {
    if (!this.#counts.has(path)) return;
    this.#counts.set(path, count);
    this.#report({ loaded: [...this.#counts.values()].reduce((sum, one) => sum + one, 0), total: this.#total });
  }
}

/** @returns {number} as many threads as can share memory here */
function mostThreads() {
  return globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
}

/**
 * @param {import("../types/web.js").WebRuntime} ort @param {string} path @param {Uint8Array} graph
 * @param {object} options
 */
async function open(ort, path, graph, options) {
  try {
    return await ort.InferenceSession.create(graph, options);
  } catch (error) {
    throw new BundleError(`${path} cannot be opened: ${/** @type {Error} */ (error).message ?? error}`);
  }
}

/**
 * @param {string} address @param {number} most bytes; one more is an error
 * @param {(count: number) => void} report how many bytes have arrived
 * @returns {Promise<Uint8Array>}
 */
async function download(address, most, report) {
  const body = /** @type {ReadableStream<Uint8Array>} */ ((await get(address)).body);
  const chunks = [];
  let count = 0;
  for (const reader = body.getReader(); ; ) {
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
  if (!answer.ok) throw new MissingFileError(`${address}: ${answer.status} ${answer.statusText}`);
  return answer;
}

/** @param {string} address @param {Error} error @returns {never} */
function unreachable(address, error) {
  throw new NetworkError(`${address} cannot be reached: ${error.message}`);
}
