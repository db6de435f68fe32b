/** What the package exports in a browser. */

import type { Host, InferenceSession, Ort, TokenizerClass } from "./index.js";

export * from "./index.js";

/** Return the host of a bundle at an address. Files are fetched as they are needed, and checked. */
export declare function webHost(options: WebOptions): Host;

export interface WebOptions {
  /** onnxruntime-web, or its build for WebGPU. */
  ort: WebRuntime;
  /** `Tokenizer` of the package "@huggingface/tokenizers". */
  Tokenizer: TokenizerClass;
  /** The address of the bundle's folder. */
  folder: string;
  /** What runs the model; WebAssembly unless given. */
  device?: "wasm" | "webgpu";
  /** Threads of WebAssembly; 0, the default, is as many as can share memory here, at most 4. */
  threads?: number;
  /** Called while a graph and its weights are downloaded. */
  onProgress?(progress: Progress): void;
}

/** In bytes, of all graphs and weights that were asked for. */
export interface Progress {
  loaded: number;
  total: number;
}

/** ONNX Runtime in a browser, as far as it is used. */
export interface WebRuntime extends Ort {
  InferenceSession: { create(graph: Uint8Array, options: any): Promise<InferenceSession> };
  env: { wasm: { numThreads?: number } };
}
