/** Print a model's answer: node answer.js "On iki artı beş kaç eder?" [--model DIR] [--variant V] [--stream] ... */

import { parseArgs } from "node:util";
import { Diffutron, DiffutronError } from "../js/diffutron.js";
import { NANO, nodeHost } from "./host.js";

const USAGE = `usage: node answer.js QUESTION [--model DIR] [--variant fp32|int8] [--preset short|long|fast] [--seed N]
                      [--temperature T] [--stream]

  --model DIR   a bundle; the embedded one unless given
  --stream      step by step, with the sampler in JavaScript; the steps go to standard error
`;

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof DiffutronError)) throw error;
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}

/** @param {string[]} args @returns {Promise<number>} the exit code */
async function main(args) {
  const parsed = parse(args);
  if (!parsed) return 2;
  const { question, model: folder, variant, stream, ...options } = parsed;
  const model = await Diffutron.load(nodeHost(folder), { variant });
  console.log(stream ? await show(model.stream(question, options)) : await model.generate(question, options));
  return 0;
}

/** @param {string[]} args */
function parse(args) {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        model: { type: "string", default: NANO },
        variant: { type: "string" },
        preset: { type: "string" },
        seed: { type: "string" },
        temperature: { type: "string" },
        stream: { type: "boolean", default: false },
      },
    });
    if (positionals.length !== 1) throw new TypeError(`one question is wanted, ${positionals.length} are given`);
    const { model = NANO, temperature } = values;
    return {
      ...values,
      model,
      question: positionals[0],
      temperature: temperature === undefined ? undefined : Number(temperature),
    };
  } catch (error) {
    console.error(`error: ${/** @type {Error} */ (error).message}\n\n${USAGE}`);
  }
}

/** @param {AsyncIterable<import("../js/diffutron.js").Step>} steps @returns {Promise<string>} the last one's text */
async function show(steps) {
  let text = "";
  for await (const step of steps) {
    text = step.text;
    console.error(`${String(step.index).padStart(3)}  ${step.masksLeft} masks left  ${JSON.stringify(text)}`);
  }
  return text;
}
