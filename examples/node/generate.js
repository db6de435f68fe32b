/** An answer in one call: node generate.js "On iki artı beş kaç eder?" */

import { fileURLToPath } from "node:url";
import { Tokens, nodeHost, renderChat } from "diffutron-ort";

const [question, ...more] = process.argv.slice(2);
if (!question?.trim() || more.length) {
  console.error('usage: node generate.js "QUESTION"');
  process.exit(2);
}
const { ort, Tokenizer, readText, openSession } = nodeHost(fileURLToPath(new URL("../../models/nano", import.meta.url)));
const int64 = (values, dims) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
const float32 = (value) => new ort.Tensor("float32", Float32Array.of(value), []);

const bundle = JSON.parse(await readText("diffutron.json"));
const tokens = new Tokens(Tokenizer, JSON.parse(await readText("tokenizer.json")), bundle);
const { generate, weights } = bundle.variants.fp32;
const session = await openSession(generate, weights); // that is, ort.InferenceSession.create(path of generate)

const prompt = tokens.encode(renderChat([{ role: "user", content: question }], bundle.chat_template));
const [{ ids: stop }] = bundle.stop_sequences;
const { ids, answer_length } = await session.run({
  prompt_ids: int64(prompt, [1, prompt.length]),
  max_new_tokens: int64([64], []),
  steps: int64([64], []),
  block_length: int64([32], []),
  temperature: float32(0),
  repetition_penalty: float32(1),
  seed: int64([0], []),
  stop_ids: int64(stop, [1, stop.length]),
});
const answer = Array.from(ids.data, Number).slice(prompt.length, prompt.length + Number(answer_length.data[0]));
console.log(tokens.decode(answer, prompt.at(-1)).trim());
