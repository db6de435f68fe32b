/** The loop with a model of a few lines, whose answers one can do in one's head. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Canvas } from "../src/canvas.js";
import { makeConfig } from "../src/config.js";
import { denoise } from "../src/denoise.js";

/** @typedef {import("../src/session.js").PassInput} Pass */

const SPECIAL = { pad: 0, eos: 1, bos: 2, unk: 3, mask: 4 };
const [EOS, MASK] = [SPECIAL.eos, SPECIAL.mask];

/**
 * Denoise `ids` and three times as many masks, with a model that says `token` of each position, all equally surely.
 *
 * @param {number[]} ids @param {object} options @param {(position: number, passes: number) => number} token
 */
async function loop(ids, options, token = () => 9) {
  /** @type {Pass[]} */
  const passes = [];
  const kept = { data: null, dims: [], dispose() {} };
  const run = async (/** @type {Pass} */ pass) => {
    passes.push(pass);
    const each = Float32Array.from(pass.rows, () => 0.5);
    return {
      topIds: pass.rows.map((row) => [token(pass.positionIds[row], passes.length)]),
      topLogits: pass.rows.map(() => Float32Array.of(1)),
      rest: each,
      restTempered: each,
      entropy: each,
      kvCache: pass.returnKV ? { key: kept, value: kept } : undefined,
    };
  };
  const canvas = Canvas.forGeneration(ids, 6, MASK);
  const config = makeConfig([{ max_new_tokens: 6, block_length: 3, steps: 6, temperature: 0, ...options }]);
  const steps = [];
  const session = /** @type {any} */ ({ run });
  for await (const step of denoise(session, canvas, config, SPECIAL, () => false)) steps.push(step);
  return { passes, steps };
}

test("ties go to the lowest position, block by block", async () => {
  const { steps } = await loop([7], {});
  assert.deepEqual(
    steps.map(({ positions }) => positions),
    [[1], [2], [3], [4], [5], [6]],
  );
  assert.deepEqual(
    steps.map(({ block }) => block),
    [0, 0, 0, 1, 1, 1],
  );
  assert.deepEqual(steps[5].ids, [7, 9, 9, 9, 9, 9, 9]);
});

test("a pass is asked for the masks before the block's end, and told what has been seen", async () => {
  const { passes } = await loop([5, EOS, 0, 7, 7], { repetition_penalty: 1.5, penalty_exempt: [7] });
  const [first, second] = passes;
  assert.deepEqual(first.inputIds, [5, EOS, 0, 7, 7, MASK, MASK, MASK, MASK, MASK, MASK]);
  assert.deepEqual(
    [first.rows, second.rows],
    [
      [5, 6, 7],
      [6, 7],
    ],
  );
  assert.deepEqual(
    [first.seenIds, second.seenIds],
    [
      [0, 5],
      [0, 5, 9],
    ],
  ); // neither <eos> nor <mask>
  assert.deepEqual([first.repetitionPenalty, first.temperature], [1.5, 1]);
});

test("where nothing has been seen there is no penalty", async () => {
  const [first] = (await loop([EOS], { repetition_penalty: 1.5 })).passes;
  assert.deepEqual([first.seenIds, first.repetitionPenalty], [[], 1]);
});

test("a pass is asked for entropies only where something depends on them, and told what to leave out", async () => {
  const first = async (/** @type {object} */ options) => (await loop([7], options)).passes[0];
  assert.deepEqual((await first({ suppress_tokens: [8, 3] })).suppressIds, [8, 3]);
  for (const [options, wanted] of /** @type {[object, boolean][]} */ ([
    [{}, false],
    [{ commit: "factor" }, false],
    [{ commit: "entropy" }, true],
    [{ cache: "block", refresh_entropy: 0.5 }, true],
  ])) {
    assert.equal((await first(options)).wantEntropy, wanted);
  }
});

test("a mask that is left over can be committed later, and is computed from then on", async () => {
  const again = (/** @type {number} */ position, /** @type {number} */ passes) =>
    position === 1 && passes < 4 ? MASK : 9;
  const { passes, steps } = await loop([7], { cache: "block", refresh_steps: 3, steps: 8 }, again);
  assert.deepEqual(
    steps.slice(0, 3).map(({ positions }) => positions),
    [[1], [1], [1]],
  ); // for nothing
  assert.equal(steps[2].masksLeft, 6);
  const places = passes.map(({ positionIds }) => positionIds.join());
  const [all, block] = ["0,1,2,3,4,5,6", "1,2,3"];
  assert.deepEqual(places.slice(0, 3), [all, block, block]);
  assert.deepEqual(places.slice(3), [all, "1,2,3,4,5,6", "1,2,3,4,5,6"]);
  assert.deepEqual(passes[1].past?.positionIds, [0, -1, -1, -1, 4, 5, 6]);
  assert.deepEqual(passes[5].past?.positionIds, [0, -1, -1, -1, -1, -1, -1]);
});

test("everything is computed again after so many passes, or after an uncertain commit", async () => {
  const full = async (/** @type {object} */ options) =>
    (await loop([7], { cache: "block", block_length: 6, ...options })).passes.map(({ past }) => !past);
  assert.deepEqual(await full({ refresh_steps: 0 }), [true, false, false, false, false, false]);
  assert.deepEqual(await full({ refresh_steps: 2 }), [true, false, true, false, true, false]);
  assert.deepEqual(await full({ refresh_steps: 1 }), Array(6).fill(true));
  assert.deepEqual(await full({ refresh_entropy: 0.4 }), Array(6).fill(true)); // the model's is 0.5
  assert.deepEqual(await full({ refresh_entropy: 0.6 }), [true, false, false, false, false, false]);
});
