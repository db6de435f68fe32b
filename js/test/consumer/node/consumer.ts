/** A program in TypeScript that uses the package in Node: it is checked, never run. */

import { type Config, ContextError, Diffutron, type Host, PRESETS, type Step, Tokens, nodeHost, renderChat } from "diffutron-ort";

const host: Host = nodeHost("models/nano", { threads: 2 });
const model = await Diffutron.load(host, { variant: "int8" });
const answer: string = await model.generate("Merhaba", { preset: "fast", seed: 7n, stop: ["."], temperature: 0.1 });
try {
  for await (const step of model.stream("Merhaba", { template: false, seed: "18446744073709551615" })) show(step);
} catch (error) {
  if (error instanceof ContextError) console.error(error.message);
}
const config: Readonly<Config> = model.config("short", { commit: "factor" });
const steps: number | undefined = PRESETS.long.steps;
const tokens = new Tokens(host.Tokenizer, JSON.parse(await host.readText("tokenizer.json")), model.bundle);
const ids: number[] = tokens.encode(renderChat([{ role: "user", content: "Merhaba" }], model.bundle.chat_template));
console.log(answer, config.seed + 1n, steps, tokens.decode(ids, ids[0]), model.canGenerate({ cache: "block" }));

function show({ index, positions, text, confidence }: Step): void {
  console.log(index + 1, positions.length, text.trim(), Math.min(...confidence));
}

// @ts-expect-error a name that no option has
await model.generate("Merhaba", { stepz: 3 });
// @ts-expect-error a value that the option does not have
model.stream("Merhaba", { cache: "all" });
// @ts-expect-error there is no such preset
model.config("quick");
// @ts-expect-error the host is missing
await Diffutron.load();
// @ts-expect-error a step cannot be changed
for await (const step of model.stream("Merhaba")) step.ids.push(3);
