/** The model as its users see it: text in, text out. It runs in every host that provides ONNX Runtime and a tokenizer. */

import { findVariant, parse, readManifest, readOptions } from "./bundle.js";
import { Canvas } from "./canvas.js";
import { makeConfig, presetOptions } from "./config.js";
import { denoise } from "./denoise.js";
import { BundleError, ContextError, InputError, OptionError } from "./errors.js";
import { Generator } from "./generator.js";
import { isBlank, leastCharacters, renderChat } from "./chat-template.js";
import { Session } from "./session.js";
import { StopRule } from "./stopping.js";
import { checkText } from "./text.js";
import { Tokens } from "./tokens.js";

export * from "./errors.js";
export { PRESETS } from "./config.js";
export { renderChat } from "./chat-template.js";
export { Tokens } from "./tokens.js";

/**
 * @typedef {import("../types/index.js").Bundle} Bundle
 * @typedef {import("../types/index.js").Config} Config
 * @typedef {import("../types/index.js").Host} Host
 * @typedef {import("../types/index.js").Options} Options
 * @typedef {import("../types/index.js").Step} Step
 * @typedef {import("../types/index.js").Variant} Variant
 */

const SUSPICIOUS = 16; // characters a token: texts with more are measured before they are worked on

/** A masked-diffusion language model: a bundle's tokenizer and graphs, and the sampler. */
export class Diffutron {
  #host;
  #variant;
  #defaults;
  #tokens;
  #session;
  /** @type {Promise<Generator> | undefined} */
  #generator;

  /**
   * @param {Host} host @param {Bundle} bundle @param {Variant} variant
   * @param {Record<string, unknown>} defaults the bundle's own options @param {Tokens} tokens @param {Session} session
   */
  constructor(host, bundle, variant, defaults, tokens, session) {
    this.bundle = bundle;
    this.#host = host;
    this.#variant = variant;
    this.#defaults = defaults;
    this.#tokens = tokens;
    this.#session = session;
  }

  /**
   * Open a bundle.
   *
   * @param {Host} host @param {{ variant?: string }} [options] which of the bundle's graphs; the most exact one unless given
   * @returns {Promise<Diffutron>}
   * @throws {BundleError} a file does not match the bundle's manifest
   */
  static async load(host, { variant: name } = {}) {
    const bundle = await readManifest(host.readText);
    const variant = findVariant(bundle, name);
    const [session, defaults, tokenizer] = await Promise.all([
      host.openSession(variant.graph, variant.weights),
      readOptions(host.readText),
      host.readText("tokenizer.json"),
    ]);
    const tokens = new Tokens(host.Tokenizer, parse("tokenizer.json", tokenizer), bundle);
    return new Diffutron(host, bundle, variant, defaults, tokens, new Session(host.ort, session, bundle));
  }

  /**
   * Return the options of a generation: `options` over the preset's over the bundle's over the defaults.
   *
   * @param {string} [preset] @param {Record<string, unknown>} [options]
   * @returns {Readonly<Config>}
   * @throws {OptionError} a name is unknown, or a value is not allowed
   */
  config(preset, options = {}) {
    const named = preset === undefined ? {} : presetOptions(preset);
    const config = makeConfig([this.#defaults, named, options]);
    checkIds(config, this.bundle);
    return config;
  }

  /**
   * Answer a prompt in one call of the bundle's `generate` graph, which is opened at the first call.
   *
   * @param {string} prompt @param {Options} [options] those that the graph has
   * @returns {Promise<string>}
   * @throws {InputError} the prompt is not text, or too long
   * @throws {OptionError} an option is unknown, not allowed, or not in the graph
   */
  async generate(prompt, { preset, template = true, ...options } = {}) {
    const config = this.config(preset, options);
    Generator.check(config);
    const canvas = this.#canvas(prompt, template, config);
    this.#generator ??= this.#openGenerator();
    const rule = this.#stopRule(config, template);
    // The graph writes `<pad>` over the stop sequence that ends an answer, and a stop string may overlap that sequence.
    const stops = rule.overlaps ? [] : this.bundle.stop_sequences.map((stop) => stop.ids);
    const { ids } = await (await this.#generator).run(canvas.ids.slice(0, canvas.start), config, stops);
    return rule.text(ids, canvas.start);
  }

  /**
   * Return whether `generate` has these options: the bundle has the graph, and the graph has them.
   *
   * @param {Options} [options] @returns {boolean}
   * @throws {OptionError} an option is unknown or not allowed
   */
  canGenerate({ preset, template, ...options } = {}) {
    return Boolean(this.#variant.generate) && Generator.has(this.config(preset, options));
  }

  /**
   * Answer a prompt step by step. The last step's `text` is what `generate` returns. Bad arguments throw at once, not
   * at the first step.
   *
   * @param {string} prompt @param {Options} [options]
   * @returns {AsyncGenerator<Step>}
   */
  stream(prompt, { preset, template = true, ...options } = {}) {
    const config = this.config(preset, options);
    return this.#steps(this.#canvas(prompt, template, config), config, template);
  }

  /** @param {number} id @returns {string} what one token looks like, with ▁ for the space before a word */
  piece(id) {
    return this.#tokens.piece(id);
  }

  /** @param {Canvas} canvas @param {Config} config @param {boolean} template @returns {AsyncGenerator<Step>} */
  async *#steps(canvas, config, template) {
    const rule = this.#stopRule(config, template);
    const isSettled = (/** @type {Canvas} */ { ids, start }) => config.early_end && rule.isSettled(ids, start);
    for await (const step of denoise(this.#session, canvas, config, this.bundle.special_ids, isSettled)) {
      const { ids, start } = step;
      yield { ...step, text: rule.text(ids, start), settled: rule.settled(ids, start) };
    }
  }

  /** @returns {Promise<Generator>} */
  async #openGenerator() {
    const { generate, weights } = this.#variant;
    if (!generate) throw new BundleError("the bundle has no generate graph; export it again, or use stream");
    const session = await this.#host.openSession(generate, weights);
    return new Generator(this.#host.ort, session);
  }

  /** @param {string} prompt @param {boolean} template @param {Config} config */
  #canvas(prompt, template, config) {
    checkText(prompt, "prompt");
    if (template && isBlank(prompt)) throw new InputError("the prompt has no text: write a question");
    const { chat_template } = this.bundle;
    /** @type {import("../types/index.js").Message[]} */
    const messages = [{ role: "user", content: prompt }];
    this.#checkRoom(template ? leastCharacters(messages, chat_template) : prompt.length, config);
    const text = template ? renderChat(messages, chat_template) : prompt;
    this.#checkRoom(text.length, config);
    const ids = this.#tokens.encode(text);
    this.#checkLength(ids.length, config);
    return Canvas.forGeneration(ids, config.max_new_tokens, this.bundle.special_ids.mask);
  }

  /**
   * Refuse a text that is too long for the context, by its length alone, before it is worked on.
   *
   * @param {number} characters a lower bound for the text's length @param {Config} config
   */
  #checkRoom(characters, config) {
    if (characters <= SUSPICIOUS * this.bundle.context_length) return;
    this.#checkLength(this.#tokens.leastTokens(characters), config, "at least ");
  }

  /** @param {number} length in tokens @param {Config} config @param {string} [about] @throws {ContextError} */
  #checkLength(length, config, about = "") {
    const [context, total] = [this.bundle.context_length, length + config.max_new_tokens];
    if (total > context) {
      throw new ContextError(
        `${about}${length} tokens of prompt and ${config.max_new_tokens} new ones are ${total}, the model's context ` +
          `is ${context}: shorten the prompt, or lower max_new_tokens`,
      );
    }
  }

  /** @param {Config} config @param {boolean} template whether the answer is shown without white space around it */
  #stopRule(config, template) {
    return new StopRule(this.#tokens, this.bundle.special_ids, this.bundle.stop_sequences, config.stop, template);
  }
}

/** @param {Config} config @param {Bundle} bundle @throws {OptionError} an option holds ids that it cannot */
function checkIds({ penalty_exempt, suppress_tokens }, { vocab_size: size, output_vocabulary: pieces }) {
  for (const [name, ids] of Object.entries({ suppress_tokens, penalty_exempt })) {
    const largest = ids.reduce((most, id) => Math.max(most, id), -1);
    if (largest >= size) throw new OptionError(`${name} holds ${largest}: ids are below ${size}`);
  }
  const left = new Set(pieces ?? Array(size).keys());
  suppress_tokens.forEach((id) => left.delete(id));
  if (!left.size) throw new OptionError("suppress_tokens holds the whole vocabulary: leave a token to choose");
}
