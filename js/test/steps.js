/** Compares the steps of a generation with Python's. */

import assert from "node:assert/strict";

/**
 * @typedef {import("../src/diffutron.js").Step} Step
 * @typedef {import("../src/diffutron.js").Options} Options
 * @typedef {{ prompt: string, options: Options, steps: Step[], text: string }} Generation
 */

/** @param {Step} step @param {Step} wanted @param {string} which the same but for the last bits of confidences */
function assertSame({ confidence, ...step }, { confidence: wantedConfidence, ...wanted }, which) {
  assert.deepEqual({ ...step, ids: [...step.ids] }, wanted, which);
  confidence.forEach((c, i) => assert.ok(Math.abs(c - wantedConfidence[i]) < 1e-4, `${which}: ${c}`));
}

/** @param {import("../src/diffutron.js").Diffutron} model @param {Generation} generation @returns {Promise<void>} */
export async function assertStreams(model, { prompt, options, steps }) {
  let count = 0;
  for await (const step of model.stream(prompt, options)) {
    assertSame(step, steps[count], `${JSON.stringify({ prompt, options })}, step ${count}`);
    count++;
  }
  assert.equal(count, steps.length);
}
