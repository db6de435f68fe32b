/**
 * What a bundle's plain graph, onnx/model.onnx, puts in the place of the first mask of each text:
 *
 *     node fill-mask.js BUNDLE "Türkiye'nin başkenti <mask> şehridir." ...
 *
 * Prints a line of JSON a text: the five best tokens and their probabilities.
 */

import { resolve } from "node:path";

process.env.ORT_DISABLE_TELEMETRY ??= "1"; // on by default; it has to be off before the library is loaded
const { env, pipeline } = await import("@huggingface/transformers");

const [bundle, ...texts] = process.argv.slice(2);
if (!texts.length) {
  console.error("usage: node fill-mask.js BUNDLE TEXT...");
  process.exit(2);
}
env.allowRemoteModels = false;
const fill = await pipeline("fill-mask", resolve(bundle)); // a relative path would be a hub id
for (const candidates of await fill(texts)) {
  console.log(JSON.stringify(candidates.map(({ token, token_str: text, score }) => ({ token, text, score }))));
}
