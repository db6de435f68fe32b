/** Held-out questions, step by step. That each file of these tests is a process of its own makes them quick. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Diffutron } from "../src/diffutron.js";
import { nodeHost } from "../src/node.js";
import { NANO, QUIET, expected } from "./python.js";
import { assertStreams } from "./steps.js";

test("held-out questions are answered as in Python, step by step", async () => {
  const model = await Diffutron.load(nodeHost(NANO, QUIET));
  const answers = /** @type {import("./steps.js").Generation[]} */ (expected("answers"));
  assert.equal(answers.length, 120);
  for (const answer of answers) await assertStreams(model, answer);
});
