import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
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
  ["--preset", "fast"],
  ["--stream", "--preset", "fast", "--temperature", "0.1", "--seed", "3"],
]) {
  test(`the command answers: ${flags.join(" ")}`, () => {
    const { status, stdout, stderr } = run("answer.js", QUESTION, ...flags);
    assert.deepEqual([status, stdout], [0, "on yedi\n"], stderr);
    assert.equal(/^ +1 +\d+ masks left/.test(stderr), flags.includes("--stream")); // steps count from 1
  });
}

test("the command tells in one line what is wrong", () => {
  for (const [args, code, message] of /** @type {[string[], number, RegExp][]} */ ([
    [[], 2, /one question is wanted, 0 are given; see .*--help/],
    [["one", "two"], 2, /one question is wanted, 2 are given/],
    [[QUESTION, "--sed", "3"], 2, /--sed.*--help/],
    [[QUESTION, "--stream=yes"], 2, /--stream/],
    [[QUESTION, "--seed"], 2, /--seed/],
    [[QUESTION, "--seed", "x"], 2, /seed="x": must be an integer/],
    [[QUESTION, "--temperature", "warm"], 2, /temperature=NaN/],
    [[QUESTION, "--temperature", ""], 2, /temperature=""/],
    [[QUESTION, "--preset", "quick"], 2, /preset="quick": must be one of/],
    [[QUESTION, "--variant", "int3"], 2, /variant="int3"/],
    [[QUESTION, "--model", "nowhere"], 1, /nowhere.* is no bundle/],
    [[QUESTION, "--model", "\x1b[31m\u202e\nx\u0085"], 1, /error: \\u001b\[31m\\u202e x\\u0085 is no bundle/],
    [[QUESTION, "--model", ""], 1, /"" is no bundle/],
  ])) {
    const { status, stdout, stderr } = run("answer.js", ...args);
    assert.deepEqual([status, stdout], [code, ""], stderr);
    const [line, ...more] = stderr.trimEnd().split("\n");
    assert.match(line, message);
    assert.match(line, /^error: /);
    assert.deepEqual(more, []);
  }
});

test("an answer that cannot be written is no success", { skip: !existsSync("/dev/full") }, () => {
  for (const [how, code, message] of /** @type {[string, number, RegExp][]} */ ([
    [">/dev/full", 1, /^error: standard output: .*ENOSPC.*\n$/],
    ["2>/dev/full", 0, /^$/],
    [">&-", 0, /^$/],
  ])) {
    const command = `"${process.execPath}" answer.js --stream "$1" ${how} | cat; exit \${PIPESTATUS[0]}`;
    const cwd = fileURLToPath(new URL("..", import.meta.url));
    const { status, stderr } = spawnSync("bash", ["-c", command, "bash", QUESTION], { encoding: "utf8", cwd });
    const said = stderr.split("\n").filter((line) => !line.includes("masks left")).join("\n");
    assert.match(said, message);
    assert.equal(status, code);
  }
});

test("the command tells what it is for", () => {
  for (const flag of ["--help", "-h"]) {
    const { status, stdout, stderr } = run("answer.js", flag);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, /^usage: node answer.js QUESTION/);
  }
});

test("the example of one graph says what it wants where no question is given", () => {
  for (const args of [[], [""], [" "], [QUESTION, "more"]]) {
    const { status, stdout, stderr } = run("generate.js", ...args);
    assert.deepEqual([status, stdout, stderr], [2, "", 'usage: node generate.js "QUESTION"\n']);
  }
});

test("the example of one graph answers, and is what the README shows", () => {
  const read = (/** @type {string} */ name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
  const [, shown] = read("generate.js").split(/(?=const bundle)/);
  assert.ok(read("README.md").includes(shown));
  const { status, stdout, stderr } = run("generate.js", QUESTION);
  assert.deepEqual([status, stdout], [0, "on yedi\n"], stderr);
});
