/** What the modules in ../js need to run in Node: ONNX Runtime, a tokenizer, and a bundle's folder. */

import { Tokenizer } from "@huggingface/tokenizers";
import { existsSync, readFileSync } from "node:fs";
import { constants, open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Files, checkSize } from "../js/bundle.js";
import { BundleError } from "../js/diffutron.js";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // on by default; it has to be off before the library is loaded
const { default: ort } = await import("onnxruntime-node");

/** The folder of the embedded bundle. */
export const NANO = fileURLToPath(new URL("../../models/nano", import.meta.url));

/**
 * @param {string} folder of a bundle @param {{ threads?: number }} [options] within an operator; as many as may be used
 * @returns {import("../js/diffutron.js").Host}
 * @throws {BundleError} it is none
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
      // Weights lie beside the graph, where ONNX Runtime finds and maps them.
      return ort.InferenceSession.create(join(folder, graph), options).catch((error) => {
        throw new BundleError(`${join(folder, graph)} cannot be opened: ${error.message}; export the model again`);
      });
    },
  };
}

/**
 * Open a regular file for as long as it is used; a pipe is not waited for.
 *
 * @template T
 * @param {string} folder @param {string} path @param {number} most bytes
 * @param {(file: import("node:fs/promises").FileHandle) => Promise<T>} use @returns {Promise<T>}
 * @throws {BundleError} it is not there, is none, has more bytes, or cannot be read
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
    if (error instanceof BundleError) throw error;
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
    const isMissing = code === "ENOENT" || code === "ENOTDIR";
    throw new BundleError(isMissing ? `${name} is missing; download or export the bundle again` : `${name} cannot be read: ${message}`);
  } finally {
    await file?.close();
  }
}

const SESSION_OPTIONS = {
  enableMemPattern: false, // shapes differ from step to step, and each new one would cost memory
  logSeverityLevel: /** @type {3} */ (3), // errors
  extra: maySaturate() ? { session: { x64quantprecision: "1" } } : {},
};

/** Whether 8-bit products can saturate, as on x86 without VNNI: ONNX Runtime then has slower ones that cannot. */
function maySaturate() {
  if (!["x64", "ia32"].includes(process.arch)) return false;
  try {
    return !/\bavx(512)?_vnni\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return true; // not to be seen
  }
}
