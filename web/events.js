/** What a server sends bit by bit. */

/**
 * The data of a response's server-sent events, in order; comments and other fields are skipped.
 *
 * @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<string>}
 */
export async function* events(body) {
  let data = [];
  for await (const line of lines(body)) {
    if (line === "") {
      if (data.length) yield data.join("\n");
      data = [];
    } else if (/^data(:|$)/.test(line)) data.push(line.slice(5).replace(/^ /, ""));
  }
}

/** @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<string>} complete lines, without their ends */
async function* lines(body) {
  let rest = "";
  for await (const text of texts(body)) {
    const parts = (rest + text).split(/\r\n|\n|\r(?!$)/); // a \r at the end may be half of \r\n
    rest = parts.pop();
    yield* parts;
  }
}

/** @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<string>} */
async function* texts(body) {
  const reader = body.getReader(); // not every browser can loop over a stream
  const decoder = new TextDecoder();
  try {
    for (let read; !(read = await reader.read()).done; ) yield decoder.decode(read.value, { stream: true });
  } finally {
    await reader.cancel().catch(() => {}); // it has failed by itself
  }
}

/**
 * Take everything from `source` as soon as it comes, and give it out in order as it is asked for: a page that shows one
 * step after the other does not hold up the server.
 *
 * @template T @param {AsyncIterable<T>} source @returns {AsyncGenerator<T>}
 */
export async function* eager(source) {
  /** @type {{ value?: T, error?: unknown, isLast?: boolean }[]} */
  const arrived = [];
  let wake = () => {};
  const put = (/** @type {(typeof arrived)[0]} */ one) => (arrived.push(one), wake());
  (async () => {
    for await (const value of source) put({ value });
  })().then(
    () => put({ isLast: true }),
    (error) => put({ error, isLast: true }),
  );
  for (;;) {
    if (!arrived.length) await new Promise((resolve) => (wake = () => resolve(undefined)));
    const { value, error, isLast } = arrived.shift();
    if (error) throw error;
    if (isLast) return;
    yield value;
  }
}
