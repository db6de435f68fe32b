import assert from "node:assert/strict";
import { test } from "node:test";
import { Canvas } from "../src/canvas.js";
import { makeConfig, presetOptions } from "../src/config.js";
import { ContextError, Diffutron, InputError, OptionError } from "../src/diffutron.js";
import { composed, leastCharacters, renderChat } from "../src/chat-template.js";
import { nodeHost } from "../src/node.js";
import { NANO, QUIET, expected } from "./python.js";

const { presets, other, typed, refused } = expected("options");
const model = await Diffutron.load(nodeHost(NANO, QUIET));

test("every preset has the options that it has in Python", () => {
  assert.deepEqual(Object.keys(presets).sort(), ["fast", "long", "short"]);
  for (const [name, options] of Object.entries(presets)) {
    assert.deepEqual(model.config(name), { ...options, seed: BigInt(options.seed) });
  }
});

test("a preset that is named overrides the bundle's options in what it is about, as in Python", () => {
  for (const [name, options] of Object.entries(other.presets)) {
    assert.deepEqual(makeConfig([other.own, presetOptions(name)]), { ...options, seed: BigInt(options.seed) });
  }
});

test("what a user types is composed, as in Python", async () => {
  for (const { text, ids } of typed) {
    const { value } = await model.stream(text).next();
    const [now, before] = [value?.ids ?? [], ids.slice(0, value?.start)];
    assert.deepEqual(now.slice(0, value?.start), before, text);
    assert.equal(now.length, ids.length);
  }
});

test("a prompt without text is no question, unless it is raw", async () => {
  for (const prompt of ["", " \n\u2003\u001c", "\ufeff", "\u200b \u2060\u200d", "\u0000\u007f", "\u202e\u00ad", "\u3164\u2800"]) {
    assert.throws(() => model.stream(prompt), /InputError: the prompt has no text/);
    await assert.rejects(model.generate(prompt), /InputError: the prompt has no text/);
    assert.ok(model.stream(prompt, { template: false }));
  }
});

test("what cannot fit is refused before it is worked on", () => {
  for (const part of ["aaaaaaaaaa", "ğğğğğğğğğğ", "kitap ", ".\n", "a\u0301\u0323", "😀", "x\n\n\n \t "]) {
    const begun = performance.now();
    for (const template of [true, false]) {
      const call = () => model.stream(part.repeat(10 ** 6), { template });
      assert.throws(call, (/** @type {any} */ error) => {
        return error instanceof ContextError && /^at least \d+ tokens of prompt and 64 new ones/.test(error.message);
      });
    }
    assert.ok(performance.now() - begun < 5000, part);
  }
  const text = `${" ".repeat(10 ** 6)}On iki artı beş kaç eder?${"\n".repeat(10 ** 6)}`;
  assert.ok(model.stream(text));
});

test("many combining marks in a row take no time", () => {
  const [begun, text] = [performance.now(), `a${"\u0301\u0323".repeat(10 ** 5)}`];
  assert.equal(composed(text), text);
  assert.equal(composed("g\u0306i\u0307"), "ği\u0307");
  assert.ok(performance.now() - begun < 1000);
});

test("no prompt has fewer characters than are counted before", () => {
  const { chat_template: template } = model.bundle;
  for (const text of ["Merhaba", "\u1f82\u0301 ", "ᾂ".repeat(40).normalize("NFD"), " x "]) {
    /** @type {import("../types/index.js").Message[]} */
    const messages = [
      { role: "system", content: text },
      { role: "user", content: text },
    ];
    for (const user of [template.user, "{content}", "{content} {content}", "no place"]) {
      const count = leastCharacters(messages, { ...template, user });
      assert.ok(count >= 0 && count <= renderChat(messages, { ...template, user }).length);
    }
  }
  assert.equal(leastCharacters(/** @type {any} */ ([null, {}, { role: ["user"], content: "x" }]), template), 0);
});

test("long lists and huge values are bounded, and shown briefly", () => {
  const many = Array.from({ length: 200_000 }, (_, i) => i % 2000);
  assert.equal(model.config("short", { penalty_exempt: many }).penalty_exempt.length, 200_000);
  const huge = { penalty_exempt: Array(2 ** 20 + 1).fill(3), stop: "a".repeat(10 ** 7), seed: "1".repeat(10 ** 7) };
  const others = { steps: "a".repeat(10 ** 7), remasking: ["a".repeat(10 ** 7)], temperature: 10n ** 5000n };
  const stops = { stop: Array(1001).fill("a") };
  for (const options of [huge, others, stops]) {
    for (const [name, value] of Object.entries(options)) {
      assert.throws(
        () => model.config("short", { [name]: value }),
        (/** @type {any} */ error) => error instanceof OptionError && error.message.length < 400,
      );
    }
  }
});

for (const { preset, ...options } of refused) {
  test(`refused, as in Python: ${JSON.stringify({ preset, ...options })}`, () => {
    const [name] = preset ? ["preset"] : Object.keys(options);
    const named = (/** @type {Error} */ error) => error instanceof OptionError && error.message.includes(name);
    assert.throws(() => model.stream("Merhaba", { preset, ...options }), named);
  });
}

test("a token has to be left to choose", () => {
  const every = [...Array(model.bundle.vocab_size).keys()];
  assert.throws(() => model.config("short", { suppress_tokens: every }), /^OptionError: .*whole vocabulary/);
  assert.deepEqual(model.config("short", { suppress_tokens: every.slice(1) }).suppress_tokens.length, every.length - 1);
});

test("numbers that are none are refused", () => {
  for (const value of [NaN, Infinity, 1n, {}]) {
    assert.throws(() => model.config("short", { temperature: value }), OptionError);
  }
  assert.throws(() => model.config("short", { seed: 2 ** 60 }), /bigint or digits/); // it may not be the number that was meant
});

test("a seed may be an integer, a bigint or digits; what is undefined is not given", () => {
  for (const seed of [5, 5n, "5"]) assert.equal(model.config("short", { seed }).seed, 5n);
  assert.equal(model.config("short", { seed: String(2n ** 64n - 1n) }).seed, 2n ** 64n - 1n);
  assert.deepEqual(model.config(undefined, { steps: undefined }), model.config("short"));
});

test("an option that is not supported is refused by name", async () => {
  const others = {
    stochastic_transfer: true,
    cfg_scale: 1,
    cfg_keep_tokens: [3],
    schedule: "cosine",
  };
  for (const [name, value] of Object.entries(others)) {
    const named = new RegExp(`^OptionError: ${name}=`);
    assert.throws(() => model.stream("Merhaba", { [name]: value }), named);
    await assert.rejects(model.generate("Merhaba", { [name]: value }), named);
  }
});

test("what one graph does not do is refused by name, with what does it", async () => {
  const others = { cache: "block", commit: "entropy", remasking: "random", early_end: false, penalty_exempt: [3], suppress_tokens: [3] };
  for (const [name, value] of Object.entries(others)) {
    await assert.rejects(
      model.generate("Merhaba", { [name]: value }),
      new RegExp(`^OptionError: ${name}=.*use stream`),
    );
  }
});

test("a prompt that is no text, or too long, is refused", async () => {
  for (const prompt of [null, 5, ["Merhaba"], "\ud800", "uzun ".repeat(300)]) {
    assert.throws(() => model.stream(/** @type {any} */ (prompt)), InputError);
    await assert.rejects(model.generate(/** @type {any} */ (prompt)), InputError);
  }
  assert.throws(() => model.stream("Merhaba", { max_new_tokens: 250 }), /the model's context is 256: shorten/);
});

test("an array that becomes a canvas can still change", () => {
  const ids = [5, 6, 7];
  const canvas = new Canvas(ids, 1);
  ids[0] = 9;
  assert.deepEqual([...canvas.ids], [5, 6, 7]);
  assert.ok(Object.isFrozen(canvas.ids));
});

test("an unknown variant is refused", async () => {
  await assert.rejects(
    Diffutron.load(nodeHost(NANO, QUIET), { variant: "int3" }),
    /variant="int3": the bundle has fp32, int8/,
  );
});

test("messages become a prompt", () => {
  /** @type {import("../types/index.js").Message[]} */
  const messages = [
    { role: "system", content: " Kısa. " },
    { role: "user", content: "$& {content}" },
    { role: "assistant", content: "\u001cEvet" },
    { role: "user", content: "Peki?" },
  ];
  const prompt =
    "[SYS]\nKısa.\n[/SYS]\n\n[Question]\n$& {content}\n[/Question]\n\n[Answer]\nEvet\n[/Answer]\n\n" +
    "[Question]\nPeki?\n[/Question]\n\n[Answer]\n";
  assert.equal(renderChat(messages, model.bundle.chat_template), prompt);
  const empty = [{ role: "user", content: " " }];
  const bad = [
    [],
    empty,
    [...empty, ...messages.slice(1)],
    [{ role: "user" }],
    [{ role: "robot", content: "" }],
    [messages[1], messages[0]],
    [messages[2]],
  ];
  for (const given of bad) {
    assert.throws(() => renderChat(/** @type {any} */ (given), model.bundle.chat_template), InputError);
  }
});
