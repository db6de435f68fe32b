import { Tokenizer } from "@huggingface/tokenizers";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { BundleError, InputError } from "../src/errors.js";
import { Tokens } from "../src/tokens.js";
import { NANO, expected } from "./python.js";

const read = async (/** @type {string} */ name) => JSON.parse(await readFile(join(NANO, name), "utf8"));
const [bundle, specification] = [await read("diffutron.json"), await read("tokenizer.json")];
const { own, changed, others, pieces } = expected("tokens");

/** @type {Record<string, { cases: any, tokens: Tokens }>} */
const tokenizers = {
  own: { cases: own, tokens: new Tokens(Tokenizer, specification, bundle) },
  changed: {
    cases: changed,
    tokens: new Tokens(Tokenizer, changed.specification, { ...bundle, vocab_size: changed.vocab_size }),
  },
};

for (const [name, cases] of Object.entries(others)) {
  const tokens = new Tokens(Tokenizer, cases.specification, { ...bundle, vocab_size: cases.vocab_size });
  tokenizers[name] = { cases, tokens };
}

for (const [name, { cases, tokens }] of Object.entries(tokenizers)) {
  test(`texts become the ids that they are in Python, and text again (${name})`, () => {
    assert.ok(cases.encoded.length > 300);
    for (const { text, ids, back } of cases.encoded) {
      assert.deepEqual(tokens.encode(text), ids, JSON.stringify(text));
      assert.equal(tokens.decode(ids), back);
    }
  });

  test(`ids become the text that they are in Python (${name})`, () => {
    assert.ok(cases.decoded.length > 800);
    for (const { ids, previous, text } of cases.decoded) {
      assert.equal(tokens.decode(ids, previous ?? undefined), text, JSON.stringify({ ids, previous }));
    }
  });
}

test("every piece looks as in Python", () => {
  assert.deepEqual(
    pieces.map((/** @type {string} */ _, /** @type {number} */ id) => tokenizers.own.tokens.piece(id)),
    pieces,
  );
});

test("what is no text is refused", () => {
  for (const text of ["\ud800", "ab\udcff", null, 5, new Uint8Array(2)]) {
    assert.throws(() => tokenizers.own.tokens.encode(/** @type {any} */ (text)), InputError);
  }
});

test("a tokenizer of another model is refused", () => {
  const other = { ...bundle, special_ids: { ...bundle.special_ids, mask: 5 } };
  assert.throws(() => new Tokens(Tokenizer, specification, other), BundleError);
  const small = new Tokens(Tokenizer, specification, { ...bundle, vocab_size: 100 });
  assert.throws(() => small.encode("bir"), /the model has 100/);
});

test("a part of a tokenizer that is not supported, or might run for ever, is refused by name", () => {
  const refused = (/** @type {any} */ parts, /** @type {RegExp} */ found) =>
    assert.throws(
      () => new Tokens(Tokenizer, { ...specification, ...parts }, bundle),
      (/** @type {any} */ error) => error instanceof BundleError && found.test(error.message),
    );
  for (const flag of ["single_word", "lstrip", "rstrip"]) {
    const tag = { id: 2023, content: "<b>", special: false, [flag]: true };
    refused({ added_tokens: [...specification.added_tokens, tag] }, new RegExp(`its token "<b>" has ${flag}`));
  }
  const doubled = { type: "Replace", pattern: { String: "a" }, content: "aa" };
  refused({ normalizer: { type: "Sequence", normalizers: Array(12).fill(doubled) } }, /64 times longer/);
  refused({ normalizer: { type: "Sequence", normalizers: Array(20).fill(doubled) } }, /more than 16 steps/);
  refused({ normalizer: { ...doubled, pattern: { Regex: "(a+)+$" } } }, /a Replace with a regular expression/);
  refused({ normalizer: { ...doubled, pattern: { String: "" } } }, /empty pattern/);
  refused({ pre_tokenizer: { ...specification.pre_tokenizer, prepend_scheme: "first" } }, /prepend_scheme "first"/);
  refused({ decoder: { type: "CTC" } }, /a step CTC/);
  refused({ model: null }, /cannot be used/);
  refused({ added_tokens: null }, /cannot be used/);
  refused({ normalizer: { type: "Sequence" } }, /cannot be used/);
});

test("a text has at least as many tokens as its characters say", () => {
  for (const { cases, tokens } of Object.values(tokenizers)) {
    for (const { text, ids } of cases.encoded) assert.ok(tokens.leastTokens(text.length) <= ids.length, text);
    assert.ok(tokens.leastTokens(10 ** 7) > 10 ** 7 / 4097);
  }
});
