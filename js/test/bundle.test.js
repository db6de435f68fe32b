/** A bundle that is not what its manifest says, or whose manifest is none, is a BundleError that names what is wrong. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { BundleError, Diffutron } from "../src/diffutron.js";
import { nodeHost } from "../src/node.js";
import { NANO, QUIET } from "./python.js";

const MANIFEST = "diffutron.json";
const folder = mkdtempSync(join(tmpdir(), "diffutron-"));
after(() => rmSync(folder, { recursive: true }));

/** @returns {string} a copy of the embedded bundle that may be damaged */
function copy() {
  const bundle = mkdtempSync(join(folder, "bundle-"));
  const manifest = JSON.parse(readFileSync(join(NANO, MANIFEST), "utf8"));
  mkdirSync(join(bundle, "onnx"));
  for (const name of [MANIFEST, ...Object.keys(manifest.files)]) cpSync(join(NANO, name), join(bundle, name));
  return bundle;
}

/** @param {string} bundle @param {(manifest: any) => unknown} change */
function change(bundle, change) {
  const manifest = JSON.parse(readFileSync(join(bundle, MANIFEST), "utf8"));
  writeFileSync(join(bundle, MANIFEST), JSON.stringify(change(manifest) ?? manifest));
}

/** @param {string} bundle @param {string} name @param {string} content and its place in the manifest */
function replace(bundle, name, content) {
  writeFileSync(join(bundle, name), content);
  const sha256 = createHash("sha256").update(content).digest("hex");
  change(bundle, ({ files }) => void (files[name] = { size: Buffer.byteLength(content), sha256 }));
}

/** @param {string} bundle */
async function answer(bundle) {
  const model = await Diffutron.load(nodeHost(bundle, QUIET));
  return model.generate("On iki artı beş kaç eder?");
}

/** @param {string} bundle @param {RegExp} message @param {string} which */
async function assertRefused(bundle, message, which) {
  const error = await answer(bundle).catch((error) => error);
  assert.ok(error instanceof BundleError, `${which} ${error.stack ?? error}`);
  assert.match(error.message, message, which);
  assert.ok(error.message.length < 1000, which);
}

test("a copy answers", async () => assert.equal(await answer(copy()), "on yedi"));

for (const name of ["generation_config.json", "tokenizer.json", "onnx/denoiser.onnx", "onnx/denoiser.onnx.data", "onnx/generate.onnx"]) {
  test(`${name} is there, a regular file, and as it was`, async () => {
    const bundle = copy();
    const path = join(bundle, name);
    const original = readFileSync(path);
    appendFileSync(path, " ");
    await assertRefused(bundle, /bytes, not/, "longer");
    truncateSync(path, original.length - 1);
    await assertRefused(bundle, /bytes, not/, "shorter");
    if (!name.endsWith(".data")) {
      const changed = Buffer.from(original);
      changed[changed.length - 2] ^= 1;
      writeFileSync(path, changed);
      await assertRefused(bundle, /was changed/, "changed");
    }
    renameSync(path, `${path}.away`);
    await assertRefused(bundle, /is missing/, "missing");
    mkdirSync(path);
    await assertRefused(bundle, /no regular file|cannot be read/, "a folder");
    rmSync(path, { recursive: true });
    spawnSync("mkfifo", [path]);
    await assertRefused(bundle, /no regular file/, "a pipe");
  });
}

test("paths stay in the folder, and are listed", async () => {
  for (const path of ["../../x", "/etc/passwd", "onnx/../../x", "onnx\\x", "c:x", "", ".", "onnx//x", "./x", "a\0b"]) {
    for (const key of ["graph", "weights", "generate"]) {
      const bundle = copy();
      change(bundle, ({ variants }) => void (variants.fp32[key] = path));
      await assertRefused(bundle, /variants.fp32 is/, path);
      change(bundle, ({ files }) => void (files[path] = files["onnx/denoiser.onnx"]));
      await assertRefused(bundle, /names of files in the bundle's folder/, path);
    }
  }
});

const ODD = [null, true, 0, -1, 1.5, 1e300, "", "x", [], [null], {}, { a: 1 }];

test("a value of another type is refused by its name, wherever it stands", async () => {
  const bundle = copy();
  const original = readFileSync(join(bundle, MANIFEST), "utf8");
  /** @type {[string, (manifest: any, value: unknown) => void, unknown[]][]} */
  const places = [
    ["format", (m, v) => (m.format = v), []],
    ["context_length", (m, v) => (m.context_length = v), []],
    ["vocab_size", (m, v) => (m.vocab_size = v), []],
    ["layers", (m, v) => (m.layers = v), []],
    ["hidden_size", (m, v) => (m.hidden_size = v), []],
    ["source", (m, v) => (m.source = v), []],
    ["source.name", (m, v) => (m.source.name = v), ["", "x"]],
    ["special_ids", (m, v) => (m.special_ids = v), []],
    ["special_ids", (m, v) => (m.special_ids.mask = v), []],
    ["chat_template", (m, v) => (m.chat_template = v), []],
    ["chat_template.user", (m, v) => (m.chat_template.user = v), []],
    ["chat_template.generation", (m, v) => (m.chat_template.generation = v), ["", "x"]],
    ["stop_sequences", (m, v) => (m.stop_sequences = v), [[]]],
    ["stop_sequences", (m, v) => (m.stop_sequences[0] = v), []],
    ["stop_sequences.text", (m, v) => (m.stop_sequences[0].text = v), ["x"]],
    ["stop_sequences.ids", (m, v) => (m.stop_sequences[0].ids = v), []],
    ["output_vocabulary", (m, v) => (m.output_vocabulary = v), [null]],
    ["variants", (m, v) => (m.variants = v), []],
    ["variants.fp32", (m, v) => (m.variants.fp32 = v), []],
    ["variants.fp32", (m, v) => (m.variants.fp32.graph = v), []],
    ["variants.fp32", (m, v) => (m.variants.fp32.generate = v), [null]],
    ["files", (m, v) => (m.files = v), []],
    ["files.tokenizer.json", (m, v) => (m.files["tokenizer.json"] = v), []],
    ["files.tokenizer.json.size", (m, v) => (m.files["tokenizer.json"].size = v), [0]],
    ["files.tokenizer.json.sha256", (m, v) => (m.files["tokenizer.json"].sha256 = v), []],
  ];
  for (const [name, put, allowed] of places) {
    for (const value of ODD) {
      if (allowed.some((one) => JSON.stringify(one) === JSON.stringify(value))) continue;
      writeFileSync(join(bundle, MANIFEST), original);
      change(bundle, (manifest) => void put(manifest, value));
      await assertRefused(bundle, new RegExp(name.split(".")[0]), `${name} = ${JSON.stringify(value)}:`);
    }
  }
});

test("what is no manifest is refused", async () => {
  const bundle = copy();
  for (const text of ["", "{", "[]", "null", "3", '"x"', "[".repeat(1e6), "\ufeff{}", '{"format": 99}']) {
    writeFileSync(join(bundle, MANIFEST), text);
    await assertRefused(bundle, /diffutron.json/, text.slice(0, 10));
  }
  writeFileSync(join(bundle, MANIFEST), Buffer.from([0xff, 0xfe]));
  await assertRefused(bundle, /UTF-8/, "no UTF-8");
  truncateSync(join(bundle, MANIFEST), 65 * 2 ** 20);
  await assertRefused(bundle, /bytes/, "64 MB of nothing");
});

test("options that are not allowed are the bundle's fault", async () => {
  const bundle = copy();
  for (const [text, message] of /** @type {[string, RegExp][]} */ ([
    ['{"steps": "x"}', /generation_config.json: steps="x"/],
    ['{"temperature": 1e999}', /generation_config.json: temperature/],
    ["[]", /generation_config.json/],
    ["null", /generation_config.json/],
    ["{", /generation_config.json/],
  ])) {
    replace(bundle, "generation_config.json", text);
    await assertRefused(bundle, message, text);
  }
  replace(bundle, "generation_config.json", '{"steps": null, "temperature": 0, "other": [1]}');
  assert.equal(await answer(bundle), "on yedi");
});

test("a graph that ONNX Runtime cannot open is the bundle's fault", async () => {
  const bundle = copy();
  replace(bundle, "onnx/denoiser.onnx", "no graph");
  await assertRefused(bundle, /denoiser.onnx cannot be opened/, "no graph");
});
