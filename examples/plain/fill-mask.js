// What a bundle's plain graph (onnx/model.onnx) puts in the place of the first mask of each text.
//
//     npm install --ignore-scripts
//     node fill-mask.js BUNDLE "Türkiye'nin başkenti <mask> şehridir." ...
//
// Prints one line of JSON a text: the five best tokens with their probabilities.

import path from "node:path";

import { env, pipeline } from "@huggingface/transformers";

const [bundle, ...texts] = process.argv.slice(2);
if (!texts.length) {
  console.error("usage: node fill-mask.js BUNDLE TEXT...");
  process.exit(2);
}
env.allowRemoteModels = false;
const fill = await pipeline("fill-mask", path.resolve(bundle)); // relative, it would be a hub id
for (const candidates of await fill(texts)) {
  console.log(JSON.stringify(candidates.map(({ token, token_str, score }) => ({ token, text: token_str, score }))));
}
