/** Replays what a bundle did where it was made: the embedded one, or that of DIFFUTRON_BUNDLE. */

import assert from "node:assert/strict";
import { Tokenizer } from "@huggingface/tokenizers";
import { test } from "node:test";
import { DEFAULTS, hasOptions } from "../src/config.js";
import { Diffutron } from "../src/diffutron.js";
import { renderChat } from "../src/chat-template.js";
import { uniformHash } from "../src/random.js";
import { Tokens } from "../src/tokens.js";
import { nodeHost } from "../src/node.js";
import { NANO, QUIET } from "./python.js";

/**
 * @typedef {{ positions: number[], tokens: number[] }} Committed
 * @typedef {{ variant: string, exact: boolean, prompt: string, template: boolean, options: any, prompt_ids: number[],
 *   steps: Committed[], text: string }} Case
 */

const LEAST_SAME = 0.9; // of the tokens of a quantized variant, which other processors may round apart

const host = nodeHost(process.env.DIFFUTRON_BUNDLE ?? NANO, QUIET);
const read = async (/** @type {string} */ name) => JSON.parse(await host.readText(name));
const [bundle, cases] = [await read("diffutron.json"), await read("conformance.json")];

test("texts have the ids, and ids the texts", async () => {
  const tokens = new Tokens(Tokenizer, await read("tokenizer.json"), bundle);
  assert.ok(cases.tokens.length);
  for (const { text, ids, decoded } of cases.tokens) {
    assert.deepEqual(tokens.encode(text), ids, text);
    assert.equal(tokens.decode(ids), decoded);
  }
});

test("messages become the prompts", () => {
  assert.ok(cases.chats.length);
  for (const { messages, prompt } of cases.chats) assert.equal(renderChat(messages, bundle.chat_template), prompt);
});

test("uniforms have the hashes", () => {
  assert.ok(cases.uniforms.length);
  for (const { seed, stream, block, step, hashes } of cases.uniforms) {
    const found = hashes.map((/** @type {number} */ _, /** @type {number} */ position) =>
      uniformHash(BigInt(seed), stream, block, step, position),
    );
    assert.deepEqual(found, hashes);
  }
});

for (const variant of Object.keys(bundle.variants)) {
  const own = /** @type {Case[]} */ (cases.generations).filter((one) => one.variant === variant && hasOptions(one.options));

  test(`generations take the steps (${variant})`, async () => {
    const model = await Diffutron.load(host, { variant });
    assert.ok(own.length);
    const shares = [];
    for (const one of own) {
      const { template, prompt, options } = one;
      const steps = [];
      for await (const step of model.stream(prompt, { template, ...DEFAULTS, ...options })) steps.push(step);
      const { ids, start, text } = steps[steps.length - 1];
      assert.deepEqual(ids.slice(0, start), one.prompt_ids);
      if (one.exact) {
        const committed = steps.map(({ positions, tokens }) => ({ positions, tokens }));
        assert.deepEqual([committed, text], [one.steps, one.text], prompt);
      }
      shares.push(same(ids.slice(start), generated(one)));
    }
    assert.ok(mean(shares) >= LEAST_SAME, `${mean(shares)} of the tokens are the same`);
  });

  test(`one graph gives the texts (${variant})`, async () => {
    const model = await Diffutron.load(host, { variant });
    const inGraph = own.filter(({ template, options }) => model.canGenerate({ template, ...DEFAULTS, ...options }));
    assert.ok(inGraph.length);
    const right = [];
    for (const { template, prompt, options, exact, text } of inGraph) {
      const answer = await model.generate(prompt, { template, ...DEFAULTS, ...options });
      if (exact) assert.equal(answer, text, prompt);
      right.push(Number(answer === text));
    }
    assert.ok(mean(right) >= 0.5, `${mean(right)} of the texts are the same`);
  });
}

/** @param {Case} one @returns {number[]} the tokens that it generated, -1 where none was committed */
function generated({ options, prompt_ids, steps }) {
  const ids = Array(options.max_new_tokens).fill(-1);
  for (const { positions, tokens } of steps) positions.forEach((p, i) => (ids[p - prompt_ids.length] = tokens[i]));
  return ids;
}

/**
 * The share of ids that are wanted.
 *
 * @param {readonly number[]} ids @param {number[]} wanted -1 is a mask that is left
 */
function same(ids, wanted) {
  return mean(wanted.map((id, i) => Number(ids[i] === (id < 0 ? bundle.special_ids.mask : id))));
}

/** @param {number[]} values */
function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
