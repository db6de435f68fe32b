import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { RULES } from "../src/commit.js";
import { DEFAULTS } from "../src/config.js";
import { uniform, uniformHash } from "../src/random.js";
import { drawBeyond, oddsAgainst, penalise, walk } from "../src/sampling.js";
import { commitCounts } from "../src/schedule.js";
import { NANO } from "./python.js";

const read = async (/** @type {string} */ path) => JSON.parse(await readFile(path, "utf8"));
const {
  uniform: { vectors },
} = await read(join(NANO, "diffutron.json"));
const golden = await read(join(NANO, "../../tests/golden/schedule.json"));

test("uniforms are the manifest's", () => {
  assert.ok(vectors.length >= 7);
  for (const { seed, stream, block, step, position, hash } of vectors) {
    assert.equal(uniformHash(BigInt(seed), stream, block, step, position), hash);
    assert.equal(uniform(BigInt(seed), stream, block, step, position), Math.floor(hash / 256) / 2 ** 24);
  }
});

test("counts are the reference's", () => {
  const cases = Object.entries(golden.linear);
  assert.ok(cases.length > 500);
  for (const [key, counts] of cases) {
    const [masks, steps] = key.split(",").map(Number);
    assert.deepEqual(commitCounts(masks, steps), counts, key);
  }
});

test("the penalty divides what is above 0 and multiplies what is not, in float32", () => {
  const penalised = penalise(Float32Array.of(7, -3, 1, 0, -Infinity), [0, 1, 4], 1.2);
  const factor = Math.fround(1.2); // these two differ from 7 / 1.2 and -3 * 1.2, rounded
  assert.deepEqual([...penalised], [Math.fround(7 / factor), Math.fround(-3 * factor), 1, 0, -Infinity]);
});

test("a draw walks the candidates, best first, and goes on by ascending id", () => {
  const logits = Float32Array.from([1, 8, 2, 4], Math.log); // weights 1, 8, 2 and 4, or an eighth of them
  const topIds = [1, 3];
  const topLogits = Float32Array.of(logits[1], logits[3]);
  const choices = [0, 7.9, 8.1, 11.9, 12.1].map((target) => walk(topLogits, 1, target / 8).choice);
  assert.deepEqual(choices, [0, 0, 1, 1, 2]);
  assert.equal(walk(Float32Array.of(0, 0, 0), 1, 1).choice, 1); // the sum has to exceed
  const beyond = [12.1, 12.9, 13.1, 14.9, 15.1].map((target) => drawBeyond(logits, 1, target / 8, topIds));
  assert.deepEqual(beyond, [0, 0, 2, 2, 2]); // the last where rounding overshoots
  assert.equal(drawBeyond(Float32Array.of(-Infinity, 0, -Infinity, 0), 1, 5, topIds), 3);
  assert.equal(drawBeyond(Float32Array.of(-Infinity, 0, -Infinity, -Infinity), 1, 5, topIds), 1); // 3 is suppressed
});

test("the odds against tell confidences apart that are the same float32", () => {
  assert.equal(oddsAgainst(5, 5, 1e-9), 1e-9);
  assert.ok(Math.abs(oddsAgainst(Math.log(0.25), Math.log(0.5), 1) - 3) < 1e-12);
});

test("rules commit what is sure together", () => {
  /** @type {import("../types/options.js").Config} */
  const factor = { ...DEFAULTS, commit: "factor", commit_factor: 1 };
  assert.equal(RULES.factor([0.1, 0.2, 0.4, 9], [], factor), 2); // 2/11, 3/6, 4 * 0.4/1.4, 5 * 0.9
  assert.equal(RULES.factor([0.1, Infinity], [], factor), 1);
  /** @type {import("../types/options.js").Config} */
  const entropy = { ...DEFAULTS, commit: "entropy", commit_entropy: 0.5 };
  assert.equal(RULES.entropy([], [2, 0.25, 0.25, 0.1], entropy), 3); // less the largest: 0, 0.25, 0.5, 0.6
  assert.equal(RULES.schedule([0, 0], [0, 0], DEFAULTS), 0);
});
