import assert from "node:assert/strict";
import { test } from "node:test";
import { Diffutron, InputError, OptionError } from "../../js/diffutron.js";
import { renderChat } from "../../js/prompt.js";
import { NANO, nodeHost } from "../host.js";
import { expected } from "./python.js";

const { presets, refused } = expected("options");
const model = await Diffutron.load(nodeHost(NANO));

test("every preset has the options that it has in Python", () => {
  assert.deepEqual(Object.keys(presets).sort(), ["fast", "long", "short"]);
  for (const [name, options] of Object.entries(presets)) {
    assert.deepEqual(model.config(name), { ...options, seed: BigInt(options.seed) });
  }
});

for (const { preset, ...options } of refused) {
  test(`refused, as in Python: ${JSON.stringify({ preset, ...options })}`, () => {
    const [name] = preset ? ["preset"] : Object.keys(options);
    const named = (/** @type {Error} */ error) => error instanceof OptionError && error.message.includes(name);
    assert.throws(() => model.stream("Merhaba", { preset, ...options }), named);
  });
}

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

test("what these modules do not do is refused by name", async () => {
  const others = {
    stochastic_transfer: true,
    cfg_scale: 1,
    cfg_keep_tokens: [3],
    schedule: "cosine",
    suppress_tokens: [3],
  };
  for (const [name, value] of Object.entries(others)) {
    const named = new RegExp(`^OptionError: ${name}=`);
    assert.throws(() => model.stream("Merhaba", { [name]: value }), named);
    await assert.rejects(model.generate("Merhaba", { [name]: value }), named);
  }
});

test("what one graph does not do is refused by name, with what does it", async () => {
  const others = { cache: "block", commit: "entropy", remasking: "random", early_end: false, penalty_exempt: [3] };
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

test("an unknown variant is refused", async () => {
  await assert.rejects(
    Diffutron.load(nodeHost(NANO), { variant: "int3" }),
    /variant="int3": the bundle has fp32, int8/,
  );
});

test("messages become a prompt", () => {
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
  const bad = [[], [{ role: "user" }], [{ role: "robot", content: "" }], [messages[1], messages[0]], [messages[2]]];
  for (const given of bad) {
    assert.throws(() => renderChat(/** @type {any} */ (given), model.bundle.chat_template), InputError);
  }
});
