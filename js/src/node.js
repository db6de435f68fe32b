/** The package in Node: the sampler, and a host that reads a bundle's folder and runs onnxruntime-node. */

import { Tokenizer } from "@huggingface/tokenizers";
import { existsSync, readFileSync } from "node:fs";
import { constants, open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Files, checkSize } from "./bundle.js";
import { BundleError } from "./errors.js";

export * from "./diffutron.js";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // telemetry is on by default, and read when the library is loaded
const { default: ort } = await import("onnxruntime-node");

/**
 * Return the host of a bundle on disk.
 *
 * @param {string} folder the bundle's
 * @param {{ threads?: number }} [options] threads within an operator; all that this process may use unless given
 * @returns {import("../types/index.js").Host}
 * @throws {BundleError} there is no bundle in the folder
 */
export function nodeHost(folder, { threads = availableParallelism() } = {}) {
  if (!folder || !existsSync(join(folder, "diffutron.json"))) {
    throw new BundleError(`${folder || '""'} is no bundle: give a folder that \`diffutron-ort export\` wrote`);
  }
  const files = new Files((path, most) => withFile(folder, path, most, (file) => file.readFile()));
  return {
    ort,
    Tokenizer,
    readText: (path) => files.text(path),
    async openSession(graph, weights) {
      await files.bytes(graph);
      const [size] = await files.sizes(weights);
      await withFile(folder, weights, size, async (file) => checkSize(weights, (await file.stat()).size, size));
      const options = { ...SESSION_OPTIONS, intraOpNumThreads: threads };
      // The weights are beside the graph, where ONNX Runtime finds and maps them.
      return ort.InferenceSession.create(join(folder, graph), options).catch((error) => {
        throw new BundleError(`${join(folder, graph)} cannot be opened: ${error.message}; export the model again`);
      });
    },
  };
}

/**
 * Open a regular file, pass it to `use`, and close it; do not wait for a pipe.
 *
 * @template T
 * @param {string} folder @param {string} path @param {number} most bytes
 * @param {(file: import("node:fs/promises").FileHandle) => Promise<T>} use @returns {Promise<T>}
 * @throws {BundleError} the file is missing, not a regular file, larger than `most`, or unreadable
 */
async function withFile(folder, path, most, use) {
  const name = join(folder, path);
  let file;
  try {
    file = await open(name, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stat = await file.stat();
    if (!stat.isFile()) throw new BundleError(`${name} is no regular file; export the model again`);
    if (stat.size > most) throw new BundleError(`${name} has ${stat.size} bytes, not ${most}; get it again`);
    return await use(file);
  } catch (error) {
    throw error instanceof BundleError ? error : unreadable(name, /** @type {NodeJS.ErrnoException} */ (error));
  } finally {
    await file?.close();
  }
}

/** @param {string} name @param {NodeJS.ErrnoException} error */
function unreadable(name, { code, message }) {
  const isMissing = code === "ENOENT" || code === "ENOTDIR";
  return new BundleError(
    isMissing ? `${name} is missing; download or export the bundle again` : `${name} cannot be read: ${message}`,
  );
}

const SESSION_OPTIONS = {
  enableMemPattern: false, // shapes differ from step to step, and each new one would cost memory
  logSeverityLevel: /** @type {3} */ (3), // errors
  extra: maySaturate() ? { session: { x64quantprecision: "1" } } : {},
};

/**
 * Return whether 8-bit products can saturate, as they do on x86 without VNNI. ONNX Runtime has slower kernels that
 * cannot.
 */
function maySaturate() {
  if (!["x64", "ia32"].includes(process.arch)) return false;
  try {
    return !/\bavx(512)?_vnni\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return true; // unknown
  }
}
