/** What the package exports in every host. */

import type { Config, PresetName } from "./options.js";

export type { Config, PresetName };

/**
 * What a caller may set. Options that are left out come from the bundle, and else from the package's defaults; a preset
 * overrides the bundle's, and the other options override the preset's.
 */
export interface Options extends Partial<Omit<Config, "seed" | "stop">> {
  preset?: PresetName;
  /** Put the prompt into the bundle's chat template (the default); false continues the raw text. */
  template?: boolean;
  /** An integer from 0 to 2^64 - 1; beyond `Number.MAX_SAFE_INTEGER`, a bigint or digits. */
  seed?: bigint | number | string;
  stop?: string | readonly string[];
}

/** A masked-diffusion language model: a bundle's tokenizer and graphs, and the sampler. */
export declare class Diffutron {
  /**
   * Open a bundle.
   *
   * @param options.variant which of the bundle's graphs to run; fp32, if it has one, unless given
   * @throws {BundleError} a file does not match the bundle's manifest
   * @throws {OptionError} the bundle has no such variant
   */
  static load(host: Host, options?: { variant?: string }): Promise<Diffutron>;

  /** The bundle's manifest. */
  readonly bundle: Bundle;

  /**
   * Return every option of a generation: `options` over the preset's over the bundle's over the defaults.
   *
   * @throws {OptionError} a name is unknown, or a value is not allowed
   */
  config(preset?: PresetName, options?: Omit<Options, "preset" | "template">): Readonly<Config>;

  /**
   * Answer a prompt in one call of the graph of the whole generation, which is opened at the first call.
   *
   * @throws {InputError} the prompt is not text, or too long
   * @throws {OptionError} an option is unknown, not allowed, or not in the graph; `stream` may have it
   */
  generate(prompt: string, options?: Options): Promise<string>;

  /** Return whether `generate` has these options: the bundle has the graph, and the graph has them. */
  canGenerate(options?: Options): boolean;

  /**
   * Answer a prompt step by step. The last step's `text` is what `generate` returns. Bad arguments throw at once, not
   * at the first step.
   */
  stream(prompt: string, options?: Options): AsyncGenerator<Step, void, undefined>;

  /** Return what one token looks like, with ▁ for the space before a word. */
  piece(id: number): string;
}

/** What one denoising step did. */
export interface Step {
  /** Number of this step, from 0. */
  index: number;
  /** Number of the active block, from 0. */
  block: number;
  /** [m], the committed positions, the most certain first. */
  positions: number[];
  /** [m], the tokens that were committed there. */
  tokens: number[];
  /** [m], the probability that the model gave to each. */
  confidence: number[];
  /** [length], the canvas after the step. */
  ids: readonly number[];
  /** Where the generated span begins in `ids`. */
  start: number;
  /** How many masks the canvas still has. */
  masksLeft: number;
  /** How many of its tokens the pass computed. */
  numComputed: number;
  /** How many of those it predicted. */
  numPredicted: number;
  /** The answer so far, without its masks; it may still change. */
  text: string;
  /** The beginning of the answer that can change no more: what a program that prints as it goes has to print. */
  settled: string;
}

/** By name, what a preset sets; the other options stay the bundle's. */
export declare const PRESETS: Presets;
export type Presets = Readonly<Record<PresetName, Readonly<Partial<Config>>>>;

/** A bundle's tokenizer, for programs that run a graph themselves. What a user types never becomes a control token. */
export declare class Tokens {
  /** @param specification the bundle's tokenizer.json, parsed */
  constructor(Tokenizer: TokenizerClass, specification: any, bundle: Bundle);
  /** Return the ids of `text`, without `<bos>` or `<eos>`. */
  encode(text: string): number[];
  /** Return the text of `ids`, which follow the token `previous`, without control tokens. */
  decode(ids: readonly number[], previous?: number): string;
  /** Return what one token looks like, with ▁ for the space before a word. */
  piece(id: number): string;
}

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Return the prompt that asks the model to answer the last of `messages`. */
export declare function renderChat(messages: readonly Message[], template: Template): string;

/** What each role's message becomes, with `{content}` in its place, and what asks for an answer. */
export interface Template {
  system: string;
  user: string;
  assistant: string;
  generation: string;
}

/** The ids of the control tokens. */
export interface SpecialIds {
  pad: number;
  eos: number;
  bos: number;
  unk: number;
  mask: number;
}

/** `diffutron.json`, parsed. Paths are relative to the bundle's folder. */
export interface Bundle {
  format: number;
  context_length: number;
  vocab_size: number;
  layers: number;
  hidden_size: number;
  source: { name: string };
  special_ids: SpecialIds;
  chat_template: Template;
  /** What ends an answer. */
  stop_sequences: { text: string; ids: number[] }[];
  /** The ids of the columns of `logits`; absent where there is one for every id. */
  output_vocabulary?: number[] | null;
  variants: Record<string, Variant>;
  files: Record<string, { size: number; sha256: string }>;
}

export interface Variant {
  graph: string;
  weights: string;
  /** The graph of the whole generation. */
  generate?: string | null;
  /** How far its predictions are from the checkpoint's: `max_abs_over_std` if it is exact. */
  fidelity?: Record<string, unknown> | null;
}

/** What differs from host to host; `nodeHost` and `webHost` return one. Paths are relative to the bundle's folder. */
export interface Host {
  ort: Ort;
  Tokenizer: TokenizerClass;
  readText(path: string): Promise<string>;
  openSession(graph: string, weights: string): Promise<InferenceSession>;
}

/** The constructor of `Tokenizer` in the package "@huggingface/tokenizers". */
export type TokenizerClass = new (specification: any, config: any) => {
  encode(text: string, options: any): { ids: number[] };
  decode(ids: any, options: any): string;
  id_to_token(id: number): string | undefined;
  token_to_id(token: string): number | undefined;
};

/** ONNX Runtime, as far as it is used. */
export interface Ort {
  Tensor: new (type: any, data: any, dims: readonly number[]) => Tensor;
}

export interface Tensor {
  readonly data: any;
  readonly dims: readonly number[];
  dispose(): void;
}

export interface InferenceSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: any, names?: any): Promise<Record<string, any>>;
}

/** The base of this package's errors. */
export declare class DiffutronError extends Error {}
/** An option, or a combination of options, that has no meaning or is not supported here. */
export declare class OptionError extends DiffutronError {}
/** A prompt, message or text that cannot be generated from. */
export declare class InputError extends DiffutronError {}
/** Prompt and new tokens together exceed the model's context. */
export declare class ContextError extends InputError {}
/** A bundle whose contents do not match its manifest. */
export declare class BundleError extends DiffutronError {}
/** A server has no such file. */
export declare class MissingFileError extends BundleError {}
/** A server cannot be reached. */
export declare class NetworkError extends DiffutronError {}
/** The model returned a value that is not finite. */
export declare class NumericsError extends DiffutronError {}
