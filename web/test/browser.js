/** What the tests of the page need: a server, a browser, and the page's own ways of saying that it is done. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const CHECKOUT = fileURLToPath(new URL("../..", import.meta.url));
/** milliseconds for whatever is waited for: a busy machine may stand still for a while */
export const PATIENCE = 240_000;
const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

/**
 * @param {string[]} args of the command line, which are a server's
 * @returns {Promise<{ address: string, process: import("node:child_process").ChildProcess }>}
 */
export async function serve(...args) {
  const command = ["-m", "diffutron_ort.cli", ...args];
  const server = spawn("python", command, { cwd: CHECKOUT, stdio: ["ignore", "ignore", "pipe"] }); // this checkout's, whatever is installed
  const said = [];
  let address;
  for await (const line of createInterface(server.stderr)) {
    said.push(line);
    [address] = /http:[^\s"]+/.exec(line) ?? [];
    if (address) break;
  }
  server.stderr.resume(); // a pipe that nobody empties would stop the server
  if (address) return { address, process: server };
  throw new Error(`the server did not start; python on PATH must have diffutron-ort:\n${said.join("\n")}`);
}

/** @param {string[]} args @returns {Promise<import("playwright-core").Browser>} */
export async function launch(...args) {
  if (!existsSync(EXECUTABLE)) {
    throw new Error(`${EXECUTABLE} is not there: apt-get install -y chromium, or say in CHROMIUM where one is`);
  }
  return chromium.launch({ executablePath: EXECUTABLE, args: ["--no-sandbox", ...args], timeout: PATIENCE });
}

/**
 * A page of its own whose script runs, with what it asked for and what it complained of.
 *
 * @param {import("playwright-core").Browser} browser @param {string} address
 * @param {import("playwright-core").BrowserContextOptions} [options]
 * @param {(page: import("playwright-core").Page) => Promise<unknown>} [prepare] before it opens
 */
export async function open(browser, address, options = {}, prepare = async () => {}) {
  const context = await browser.newContext({ reducedMotion: "reduce", locale: "tr-TR", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const [requests, complaints] = [[], []];
  context.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  await prepare(page);
  await page.goto(address);
  await page.locator("#ask:enabled").waitFor({ state: "attached" });
  return { page, context, requests, complaints };
}

/**
 * What assistive technology would stumble over, which must be nothing. The page must bypass its policy.
 *
 * @param {import("playwright-core").Page} page @param {string} when
 */
export async function assertAccessible(page, when) {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.addScriptTag({ path: AXE });
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => `${when}: ${id} ${nodes.map((node) => node.html)}`), []);
  assert.ok(passes.some(({ id }) => id === "color-contrast"));
}

/** @param {import("playwright-core").Page} page @returns {Promise<number>} buttons that are too small for a finger */
export async function smallButtons(page) {
  return page.evaluate(
    () =>
      [...document.querySelectorAll("button:not([hidden], [data-state=beyond])")].filter((button) => {
        const { width, height } = button.getBoundingClientRect();
        return width && (width < 24 || height < 24);
      }).length,
  );
}

/**
 * Hold back the passes of the model in the browser, before the page opens.
 *
 * @param {import("playwright-core").Page} page
 * @returns {Promise<(count: number) => Promise<number>>} lets so many of them go, and returns how many wait then
 */
export async function holdPasses(page) {
  await page.addInitScript(() => {
    const send = Worker.prototype.postMessage;
    const held = [];
    let allowed = 0;
    globalThis.allow = (count) => {
      for (allowed += count; allowed > 0 && held.length; allowed--) held.shift()();
      return held.length;
    };
    Worker.prototype.postMessage = function (message) {
      if (message.name !== "next") return send.call(this, message);
      held.push(() => send.call(this, message));
      return globalThis.allow(0);
    };
  });
  return (count) => page.evaluate((count) => globalThis.allow(count), count);
}

/** @param {import("playwright-core").Page} page waits until the model has been loaded */
export async function loaded(page) {
  await page.locator("#runs", { hasText: /Web|sunucuda|on this server/ }).waitFor();
}

/** @param {import("playwright-core").Page} page waits until nothing runs */
export async function idle(page) {
  await page.locator("#canvas[aria-busy=false]").waitFor();
}

/**
 * @param {import("playwright-core").Page} page @param {string} question
 * @param {{ seed?: string, temperature?: string, preset?: string }} [options]
 * @returns {Promise<string>} the answer
 */
export async function ask(page, question, { seed = "0", temperature = "0", preset = "short" } = {}) {
  await page.fill("#question", question);
  await page.fill("[name=seed]", seed);
  await page.fill("[name=temperature]", temperature);
  await page.check(`[value=${preset}]`);
  await page.press("#question", "Enter");
  await idle(page);
  return page.locator("#answer").innerText();
}
