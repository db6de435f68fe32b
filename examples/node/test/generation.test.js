import assert from "node:assert/strict";
import { test } from "node:test";
import { Diffutron, OptionError } from "../../js/diffutron.js";
import { NANO, nodeHost } from "../host.js";
import { expected } from "./python.js";

/**
 * @typedef {import("../../js/diffutron.js").Step} Step
 * @typedef {import("../../js/diffutron.js").Options} Options
 * @typedef {{ prompt: string, options: Options, steps: Step[], text: string }} Generation
 */

const fetched = { atOnce: 0, again: 0 }; // passes that returned all logits

/** Node's host, but that it counts such passes: one whose canvas was the last one's runs again for them alone. */
function watched() {
  const host = nodeHost(NANO);
  let last = "";
  return {
    ...host,
    openSession: async (/** @type {string} */ graph, /** @type {string} */ weights) => {
      const session = await host.openSession(graph, weights);
      const run = async (/** @type {any} */ feeds, /** @type {string[] | undefined} */ names) => {
        const canvas = feeds.input_ids?.data.join();
        if (names?.includes("logits")) fetched[canvas === last ? "again" : "atOnce"]++;
        last = canvas;
        return names ? session.run(feeds, names) : session.run(feeds);
      };
      return { inputNames: session.inputNames, outputNames: session.outputNames, run };
    },
  };
}

const model = await Diffutron.load(watched());

/** @param {Step} step @param {Step} wanted @param {string} which the same but for the last bits of confidences */
function assertSame({ confidence, ...step }, { confidence: wantedConfidence, ...wanted }, which) {
  assert.deepEqual({ ...step, ids: [...step.ids] }, wanted, which);
  confidence.forEach((c, i) => assert.ok(Math.abs(c - wantedConfidence[i]) < 1e-4, `${which}: ${c}`));
}

/** @param {Generation} generation @returns {Promise<void>} */
async function assertStreams({ prompt, options, steps }) {
  let count = 0;
  for await (const step of model.stream(prompt, options)) {
    assertSame(step, steps[count], `${JSON.stringify({ prompt, options })}, step ${count}`);
    count++;
  }
  assert.equal(count, steps.length);
}

const answers = /** @type {Generation[]} */ (expected("answers"));

test("held-out questions are answered as in Python, step by step", async () => {
  assert.equal(answers.length, 120);
  for (const answer of answers) await assertStreams(answer);
});

test("held-out questions are answered as in Python by one graph", async () => {
  for (const { prompt, options, text } of answers) assert.equal(await model.generate(prompt, options), text, prompt);
});

const LOOP_ALONE = ["cache", "commit", "remasking", "early_end", "penalty_exempt"];

for (const generation of /** @type {Generation[]} */ (expected("trajectories"))) {
  const { prompt, options, text } = generation;
  const inGraph = options.preset !== "fast" && !LOOP_ALONE.some((name) => name in options);
  test(`every step is Python's: ${JSON.stringify(options)}`, async () => {
    await assertStreams(generation);
    if (inGraph) assert.equal(await model.generate(prompt, options), text);
    else await assert.rejects(model.generate(prompt, options), OptionError);
  });
}

test("draws fell beyond the candidates, with the logits at hand and without", () => {
  assert.ok(fetched.atOnce && fetched.again, JSON.stringify(fetched));
});
