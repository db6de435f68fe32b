import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const QUESTION = "On iki artı beş kaç eder?";

/** @param {string} script @param {string[]} args */
function run(script, ...args) {
  const path = fileURLToPath(new URL(`../${script}`, import.meta.url));
  return spawnSync(process.execPath, [path, ...args], { encoding: "utf8" });
}

for (const flags of [
  [],
  ["--stream"],
  ["--variant", "int8"],
  ["--stream", "--preset", "fast", "--temperature", "0.1", "--seed", "3"],
]) {
  test(`the command answers: ${flags.join(" ")}`, () => {
    const { status, stdout, stderr } = run("answer.js", QUESTION, ...flags);
    assert.deepEqual([status, stdout], [0, "on yedi\n"], stderr);
    assert.equal(stderr.includes("masks left"), flags.includes("--stream"));
  });
}

test("the command tells what is wrong", () => {
  for (const [args, code, message] of /** @type {[string[], number, RegExp][]} */ ([
    [[], 2, /one question is wanted, 0 are given[^]*usage:/],
    [[QUESTION, "--sed", "3"], 2, /--sed/],
    [[QUESTION, "--seed", "x"], 1, /^error: seed="x": must be an integer/],
    [[QUESTION, "--temperature", "warm"], 1, /^error: temperature=NaN/],
    [[QUESTION, "--preset", "fast"], 1, /^error: cache="block": must be "none"; .* use stream/],
    [[QUESTION, "--model", "nowhere"], 1, /^error: nowhere.* is no bundle/],
  ])) {
    const { status, stdout, stderr } = run("answer.js", ...args);
    assert.deepEqual([status, stdout], [code, ""]);
    assert.match(stderr, message);
  }
});

test("the example of one graph answers, and is what the README shows", () => {
  const read = (/** @type {string} */ name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
  const [, shown] = read("generate.js").split(/(?=const bundle)/);
  assert.ok(read("README.md").includes(shown));
  const { status, stdout, stderr } = run("generate.js", QUESTION);
  assert.deepEqual([status, stdout], [0, "on yedi\n"], stderr);
});
