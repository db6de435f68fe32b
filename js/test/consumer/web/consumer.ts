/** A program in TypeScript that uses the package in a page, through a bundler: it is checked, never run. */

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-common";
import { Diffutron, MissingFileError, NetworkError, type Progress, webHost } from "diffutron-ort";

const onProgress = ({ loaded, total }: Progress): void => console.log(loaded / total);
const host = webHost({ ort, Tokenizer, folder: "/models/nano/", device: "webgpu", threads: 2, onProgress });
const model = await Diffutron.load(host).catch((error: unknown) => {
  if (error instanceof MissingFileError || error instanceof NetworkError) console.error(error.message);
  throw error;
});
console.log(await model.generate("Merhaba"));

// @ts-expect-error there is no such device
webHost({ ort, Tokenizer, folder: "/models/nano/", device: "gpu" });
// @ts-expect-error the libraries are missing
webHost({ folder: "/models/nano/" });
