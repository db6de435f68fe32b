/** What no real server does: an answer that begins and never ends, and tells when its client has hung up. */

import { once } from "node:events";
import { createServer } from "node:http";

const STEPS = 8; // that it takes

/** @returns {Promise<{ address: string, bodies: any[], hungUp: Promise<void>, close: () => void }>} */
export async function endlessServer() {
  const bodies = [];
  let leave;
  const hungUp = new Promise((resolve) => (leave = resolve));
  const server = createServer(async (request, response) => {
    response.on("close", leave);
    bodies.push(JSON.parse(await new Response(request).text()));
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let step = 0; step <= STEPS; step++) response.write(event(step));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = /** @type {any} */ (server.address());
  return { address: `http://127.0.0.1:${port}/`, bodies, hungUp, close: () => server.closeAllConnections() || server.close() };
}

/** @param {number} step from 1; 0 is before the first @param {object} [more] @returns {string} as the server sends it */
export function event(step, more = {}) {
  const committed = step ? { positions: [step - 1], tokens: [" a"], confidence: [0.5] } : { positions: [], tokens: [], confidence: [] };
  const canvas = { step, block: 0, masks: 64 - step, length: 64, ...committed, beyond: null, full: true };
  const choices = [{ index: 0, delta: { content: "a ".repeat(step).trim() }, finish_reason: null }];
  return `data: ${JSON.stringify({ choices, diffutron: canvas, ...more })}\n\n`;
}
