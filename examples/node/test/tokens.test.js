import { Tokenizer } from "@huggingface/tokenizers";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { BundleError, InputError } from "../../js/errors.js";
import { Tokens } from "../../js/tokens.js";
import { NANO } from "../host.js";
import { expected } from "./python.js";

const read = async (/** @type {string} */ name) => JSON.parse(await readFile(join(NANO, name), "utf8"));
const [bundle, specification] = [await read("diffutron.json"), await read("tokenizer.json")];
const { own, changed, pieces } = expected("tokens");

const tokenizers = {
  own: { cases: own, tokens: new Tokens(Tokenizer, specification, bundle) },
  changed: {
    cases: changed,
    tokens: new Tokens(Tokenizer, changed.specification, { ...bundle, vocab_size: changed.vocab_size }),
  },
};

for (const [name, { cases, tokens }] of Object.entries(tokenizers)) {
  test(`texts become the ids that they are in Python, and text again (${name})`, () => {
    assert.ok(cases.encoded.length > 1000);
    for (const { text, ids, back } of cases.encoded) {
      assert.deepEqual(tokens.encode(text), ids, JSON.stringify(text));
      assert.equal(tokens.decode(ids), back);
    }
  });

  test(`ids become the text that they are in Python (${name})`, () => {
    assert.ok(cases.decoded.length > 1000);
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
