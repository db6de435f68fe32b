import { Tokenizer } from "@huggingface/tokenizers";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Diffutron } from "../src/diffutron.js";
import { Ends, StopRule } from "../src/stopping.js";
import { Tokens } from "../src/tokens.js";
import { nodeHost } from "../src/node.js";
import { NANO, QUIET, expected } from "./python.js";

/** @param {string | URL} path */
const read = async (path) => JSON.parse(await readFile(path, "utf8"));
const bundle = await read(join(NANO, "diffutron.json"));
const tokens = new Tokens(Tokenizer, await read(join(NANO, "tokenizer.json")), bundle);

const groups = await read(new URL("../../tests/text/stopping.json", import.meta.url));

test("canvases show what they show in Python, and are settled when they are there", () => {
  assert.equal(groups.length, 4);
  for (const { own, cases } of groups) {
    assert.ok(cases.length > 200);
    for (const { ids, start, stop, text, settled, settled_text } of cases) {
      const rule = new StopRule(tokens, bundle.special_ids, own, stop);
      const said = [rule.text(ids, start), rule.isSettled(ids, start), rule.settled(ids, start)];
      assert.deepEqual(said, [text, settled, settled_text], JSON.stringify({ own, ids, start, stop }));
    }
  }
});

test("an answer ends by its ids at <pad>, <eos> or a stop sequence with no mask before it", () => {
  const ends = new Ends({ pad: 0, eos: 1, bos: 2, unk: 3, mask: 4 }, [[8, 9]]);
  const answers = [[7, 0, 8], [7, 1, 8], [7, 8, 9, 8], [7, 8], []].map((ids) => ends.answer(ids));
  assert.deepEqual(answers, [[7], [7], [7], [7, 8], []]);
  const ended = (/** @type {number[]} */ ...ids) => ends.hasEnded(ids);
  assert.deepEqual([ended(7, 0), ended(7, 1), ended(8, 9), ended(7, 8, 9, 4)], [true, true, true, true]);
  assert.deepEqual([ended(7, 4, 0), ended(8, 4, 9), ended(7, 8), ended(9, 8), ended()], Array(5).fill(false));
});

test("a stop string overlaps the bundle's own where it can have letters of it", () => {
  const { special_ids: special, stop_sequences: own } = bundle;
  const overlaps = (/** @type {string} */ stop) => new StopRule(tokens, special, own, [stop]).overlaps;
  const overlapping = ["yedi\n[/Answer]", "/Ans", "i\n[", "x [", "x ", " ", "[", "]", "swe", " [/Answer]", "a[/Answer"];
  const others = ["yedi", " on", "\n", "/x", "[/Answer]x", "[x", "[/Answer]", "b]x"];
  assert.deepEqual(overlapping.filter(overlaps), overlapping);
  assert.deepEqual(others.filter(overlaps), []);
});

test("where none overlaps, an answer is cut the same although <pad> stands over its end", () => {
  const special = bundle.special_ids;
  let count = 0;
  for (const { own, cases } of groups) {
    const sequences = own.map((/** @type {{ ids: number[] }} */ one) => one.ids);
    const ends = new Ends(special, sequences);
    for (const { ids, start, stop, text } of cases) {
      const rule = new StopRule(tokens, special, own, stop);
      const end = start + (ends.find(ids.slice(start))?.begin ?? ids.length);
      if (rule.overlaps || end >= ids.length) continue;
      const covered = [...ids.slice(0, end), ...Array(ids.length - end).fill(special.pad)];
      assert.equal(rule.text(covered, start), text, JSON.stringify({ own, ids, start, stop }));
      count++;
    }
  }
  assert.ok(count > 100, `${count}`);
});

test("answers are cut as in Python, in one graph and step by step", async () => {
  const model = await Diffutron.load(nodeHost(NANO, QUIET));
  for (const [i, { prompt, options, stop, text }] of expected("stops").entries()) {
    const all = { ...options, stop };
    assert.equal(await model.generate(prompt, all), text, JSON.stringify(all));
    if (i % 3) continue;
    let last = "";
    for await (const step of model.stream(prompt, all)) last = step.text;
    assert.equal(last, text, JSON.stringify(all));
  }
});
