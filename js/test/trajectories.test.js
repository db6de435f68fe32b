/** Options of every kind, step by step, and by one graph where it has them; and questions by one graph. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Diffutron, OptionError } from "../src/diffutron.js";
import { nodeHost } from "../src/node.js";
import { NANO, QUIET, expected } from "./python.js";
import { assertStreams } from "./steps.js";

const fetched = { atOnce: 0, again: 0 }; // passes that returned all logits

/** Node's host, but that it counts such passes: one whose canvas was the last one's runs again for them alone. */
function watched() {
  const host = nodeHost(NANO, QUIET);
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

test("held-out questions are answered as in Python by one graph", async () => {
  const answers = expected("texts");
  assert.equal(answers.length, 120);
  for (const { prompt, options, text } of answers) assert.equal(await model.generate(prompt, options), text, prompt);
});

const LOOP_ALONE = ["cache", "commit", "remasking", "early_end", "suppress_tokens", "penalty_exempt"];

for (const generation of /** @type {import("./steps.js").Generation[]} */ (expected("trajectories"))) {
  const { prompt, options, text } = generation;
  const inGraph = options.preset !== "fast" && !LOOP_ALONE.some((name) => name in options);
  test(`every step is Python's: ${JSON.stringify(options)}`, async () => {
    await assertStreams(model, generation);
    if (inGraph) assert.equal(await model.generate(prompt, options), text);
    else await assert.rejects(model.generate(prompt, options), OptionError);
  });
}

test("draws fell beyond the candidates, with the logits at hand and without", () => {
  assert.ok(fetched.atOnce && fetched.again, JSON.stringify(fetched));
});
