/** Print a model's answer: node answer.js "On iki artı beş kaç eder?" [--model DIR] [--variant V] [--stream] ... */

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Diffutron, DiffutronError, OptionError, nodeHost } from "diffutron-ort";
import { escaped, stripped } from "./terminal.js";

const NANO = fileURLToPath(new URL("../../models/nano", import.meta.url)); // the embedded bundle
const USAGE = `usage: node answer.js QUESTION [--model DIR] [--variant fp32|int8] [--preset short|long|fast] [--seed N]
                      [--temperature T] [--stream]

  --model DIR   a bundle; the embedded one unless given
  --stream      step by step, with the sampler in JavaScript; the steps go to standard error
  --help        print this

Without --stream, the graph of the whole generation answers where it has the options, and else the sampler.`;

let written = true;
process.stdout.on("error", (error) => {
  written = false;
  // Whoever was reading has gone where it is EPIPE.
  if (/** @type {NodeJS.ErrnoException} */ (error).code !== "EPIPE") say(`standard output: ${error.message}`);
});
process.stderr.on("error", () => {}); // nobody reads it
process.exitCode = await main(process.argv.slice(2));
process.on("exit", () => (process.exitCode ||= written ? 0 : 1));

/** @param {string[]} args @returns {Promise<number>} the exit code: 0 done, 1 failed, 2 wrong usage */
async function main(args) {
  try {
    const { help, question, model: folder, variant, stream, ...options } = parse(args);
    const load = () => Diffutron.load(nodeHost(folder), { variant });
    const text = help ? USAGE : await answer(await load(), question, options, stream);
    process.stdout.write(`${process.stdout.isTTY ? stripped(text) : text}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof DiffutronError)) throw error;
    say(error.message);
    return error instanceof OptionError ? 2 : 1;
  }
}

/** @param {string} message */
function say(message) {
  process.stderr.write(`error: ${escaped(message)}\n`);
}

/**
 * @param {string[]} args
 * @throws {OptionError} they are no usage of this command
 */
function parse(args) {
  const { values, positionals } = parsed(args);
  const { help, temperature } = values;
  if (!help && positionals.length !== 1) {
    throw new OptionError(`one question is wanted, ${positionals.length} are given; see node answer.js --help`);
  }
  const number = /** @type {any} */ (temperature?.trim() ? Number(temperature) : temperature); // "" is refused as it is
  return { ...values, question: positionals[0], temperature: number };
}

/** @param {string[]} args */
function parsed(args) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        model: { type: "string", default: NANO },
        variant: { type: "string" },
        preset: { type: "string" },
        seed: { type: "string" },
        temperature: { type: "string" },
        stream: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    const [line] = /** @type {Error} */ (error).message.split("\n");
    throw new OptionError(`${line}; see node answer.js --help`);
  }
}

/**
 * @param {Diffutron} model @param {string} question @param {import("diffutron-ort").Options} options
 * @param {boolean} stream whether to show the steps
 */
function answer(model, question, options, stream) {
  if (stream) return last(model.stream(question, options), show);
  return model.canGenerate(options) ? model.generate(question, options) : last(model.stream(question, options));
}

/**
 * @param {AsyncIterable<import("diffutron-ort").Step>} steps
 * @param {(step: import("diffutron-ort").Step) => void} [look] at each
 * @returns {Promise<string>} the last one's text
 */
async function last(steps, look = () => {}) {
  let text = "";
  for await (const step of steps) {
    text = step.text;
    look(step);
  }
  return text;
}

/** @param {import("diffutron-ort").Step} step */
function show({ index, masksLeft, text }) {
  const line = `${String(index + 1).padStart(3)}  ${masksLeft} masks left  ${JSON.stringify(text)}`;
  process.stderr.write(`${escaped(line)}\n`);
}
