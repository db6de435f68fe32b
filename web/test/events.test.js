import assert from "node:assert/strict";
import { test } from "node:test";

import { eager, events } from "../events.js";

/** A body that arrives in pieces of `size` bytes. */
function body(text, size) {
  const bytes = new TextEncoder().encode(text);
  return new ReadableStream({
    start(controller) {
      for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.subarray(i, i + size));
      controller.close();
    },
  });
}

async function all(source) {
  const found = [];
  for await (const one of source) found.push(one);
  return found;
}

test("events are the same however their bytes arrive", async () => {
  const text = 'data: {"şık": 1}\n\n: a comment\n\nevent: x\ndata:two\r\ndata: lines\r\n\r\ndata\n\ndata:  kept\n\ndata: unfinished';
  for (const size of [1, 2, 3, 7, 1000]) {
    assert.deepEqual(await all(events(body(text, size))), ['{"şık": 1}', "two\nlines", "", " kept"], `${size} bytes`);
  }
});

test("leaving the events lets the server go", async () => {
  let isCancelled = false;
  const endless = new ReadableStream({
    pull: (controller) => controller.enqueue(new TextEncoder().encode("data: 1\n\n")),
    cancel: () => (isCancelled = true),
  });
  for await (const data of events(endless)) {
    assert.equal(data, "1");
    break;
  }
  assert.ok(isCancelled);
});

test("what is taken eagerly waits for nobody, and an error comes after what came before it", async () => {
  let sent = 0;
  const source = (async function* () {
    while (sent < 3) yield ++sent;
    throw new Error("late");
  })();
  const taken = eager(source);
  assert.equal((await taken.next()).value, 1);
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(sent, 3);
  assert.deepEqual([(await taken.next()).value, (await taken.next()).value], [2, 3]);
  await assert.rejects(taken.next(), /late/);
});
