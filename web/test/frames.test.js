import assert from "node:assert/strict";
import { test } from "node:test";

import { endOf } from "../ending.js";
import { places, planned, summary } from "../frames.js";
import { megabytes, percent, texts } from "../strings.js";

const [PAD, EOS, MASK] = [0, 1, 4];
const BUNDLE = { special_ids: { pad: PAD, eos: EOS, mask: MASK }, stop_sequences: [{ text: "[/A]", ids: [8, 9] }] };

/** Steps as a model yields them; each commits places to ids. */
function steps(length, ...commits) {
  const ids = Array(length).fill(MASK);
  return commits.map((commit) => {
    const positions = Object.keys(commit).map(Number);
    for (const position of positions) ids[position] = commit[position];
    const pieces = positions.map((position) => `p${commit[position]}`);
    return { positions, pieces, confidence: positions.map(() => 0.5), beyond: endOf(ids, BUNDLE), text: "", seconds: 0.5 };
  });
}

const states = (taken, count, length) => places(taken, count, length).map(({ state }) => state);

test("before the first step everything is masked", () => {
  assert.deepEqual(places(steps(3, { 0: 5 }), 0, 3), Array(3).fill({ state: "mask" }));
});

test("what a step commits is new, and settled from the next step on", () => {
  const taken = steps(4, { 1: 5 }, { 0: 6, 2: 7 });
  assert.deepEqual(states(taken, 1, 4), ["mask", "new", "mask", "mask"]);
  assert.deepEqual(states(taken, 2, 4), ["new", "settled", "new", "mask"]);
  assert.deepEqual(places(taken, 2, 4)[1], { state: "settled", piece: "p5", confidence: 0.5, step: 1 });
});

test("going back shows what was there then", () => {
  const taken = steps(3, { 0: 5 }, { 1: PAD }, { 2: 6 });
  const once = states(taken, 1, 3);
  states(taken, 3, 3);
  assert.deepEqual(states(taken, 1, 3), once);
});

test("behind the answer's end nothing is read, masked or not", () => {
  const taken = steps(5, { 4: PAD }, { 2: PAD }, { 0: 5 }, { 1: 6 });
  assert.deepEqual(states(taken, 3, 5), ["new", "mask", "settled", "mask", "settled"]); // a mask is before it: not yet known
  assert.deepEqual(states(taken, 4, 5), ["settled", "new", "beyond", "beyond", "beyond"]);
});

test("what is new stays so behind the end", () => {
  assert.deepEqual(states(steps(3, { 0: PAD, 2: 5 }), 1, 3), ["new", "beyond", "new"]);
});

test("an answer ends behind a stop sequence, or at <pad> or <eos>, with no mask before it", () => {
  assert.equal(endOf([5, 8, 9, 6, 6], BUNDLE), 3);
  assert.equal(endOf([5, 8, 6, 9, 6], BUNDLE), null);
  assert.equal(endOf([5, EOS, 5], BUNDLE), 1);
  assert.equal(endOf([PAD, 5], BUNDLE), 0);
  assert.equal(endOf([5, MASK, 8, 9, PAD], BUNDLE), null);
  assert.equal(endOf([5, 8, 9, MASK, PAD], BUNDLE), 3);
  assert.equal(endOf([], BUNDLE), null);
});

test("of stop sequences that overlap, the one that is complete first ends the answer", () => {
  const bundle = { ...BUNDLE, stop_sequences: [{ ids: [8, 9, 9, 6] }, { ids: [9, 9] }] };
  assert.equal(endOf([5, 8, 9, 9, 6, 6], bundle), 4);
});

test("the schedule plans a pass for each commit that is not empty", () => {
  const config = (steps, length, width) => ({ steps, max_new_tokens: length, block_length: width });
  assert.equal(planned(config(64, 64, 32)), 64);
  assert.equal(planned(config(16, 64, 32)), 16);
  assert.equal(planned(config(128, 64, 32)), 64); // no more than there are masks
  assert.equal(planned(config(5, 6, 4)), 5); // 3 steps a block, of which the last has 2 masks
});

test("the summary counts passes, and tokens by the second", () => {
  const config = { steps: 4, max_new_tokens: 4, block_length: 4 };
  const taken = steps(4, { 0: 5, 1: 5 }, { 2: PAD });
  assert.deepEqual(summary(taken, config), { taken: 2, planned: 4, saved: 0.5, speed: 3 });
});

test("a percentage is not rounded to certainty", () => {
  assert.equal(percent(1, "en"), "100%");
  assert.equal(percent(0.99996, "en"), "> 99.99%");
  assert.equal(percent(0.99983, "en"), "99.98%");
  assert.equal(percent(0.5, "tr", 0), "%50");
  assert.equal(percent(0.996, "en", 0), "> 99%");
});

test("megabytes have a digit after the point", () => {
  assert.equal(megabytes(15_769_367, "en"), "15.8");
  assert.equal(megabytes(0, "tr"), "0,0");
});

test("both languages say the same things", () => {
  const shape = (value) =>
    typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([key, of]) => [key, shape(of)])) : typeof value;
  assert.deepEqual(shape(texts("en")), shape(texts("tr")));
});
