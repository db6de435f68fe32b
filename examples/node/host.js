/** What the modules in ../js need to run in Node: ONNX Runtime, a tokenizer, and a bundle's folder. */

import { Tokenizer } from "@huggingface/tokenizers";
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BundleError } from "../js/diffutron.js";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // on by default; it has to be off before the library is loaded
const { default: ort } = await import("onnxruntime-node");

/** The folder of the embedded bundle. */
export const NANO = fileURLToPath(new URL("../../models/nano", import.meta.url));

/**
 * @param {string} folder of a bundle @returns {import("../js/diffutron.js").Host}
 * @throws {BundleError} it is none
 */
export function nodeHost(folder) {
  if (!existsSync(join(folder, "diffutron.json"))) {
    throw new BundleError(`${folder} is no bundle: give a folder that \`diffutron-ort export\` wrote`);
  }
  return {
    ort,
    Tokenizer,
    readText: (path) => readFile(join(folder, path), "utf8"),
    // Weights lie beside the graph, where ONNX Runtime finds and maps them.
    openSession: (graph) => ort.InferenceSession.create(join(folder, graph), SESSION_OPTIONS),
  };
}

const SESSION_OPTIONS = {
  intraOpNumThreads: availableParallelism(),
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
