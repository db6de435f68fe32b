/** What the tests of the page need: a server, a browser, and the page's own ways of saying that it is done. */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const CHECKOUT = fileURLToPath(new URL("../..", import.meta.url));
const EXECUTABLE = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** @returns {Promise<{ address: string, process: import("node:child_process").ChildProcess }>} */
export async function serve() {
  const command = ["-m", "diffutron_ort.cli", "demo", "--no-open", "--port", "0"];
  const server = spawn("python", command, { cwd: CHECKOUT }); // so that it is this checkout's page, whatever is installed
  const said = [];
  for await (const line of createInterface(server.stderr)) {
    said.push(line);
    const found = /http:\S+/.exec(line);
    if (found) return { address: found[0], process: server };
  }
  throw new Error(`the server did not start; python on PATH must have diffutron-ort:\n${said.join("\n")}`);
}

/** @param {string[]} args @returns {Promise<import("playwright-core").Browser>} */
export async function launch(...args) {
  if (!existsSync(EXECUTABLE)) {
    throw new Error(`${EXECUTABLE} is not there: apt-get install -y chromium, or say in CHROMIUM where one is`);
  }
  return chromium.launch({ executablePath: EXECUTABLE, args: ["--no-sandbox", ...args] });
}

/** @param {import("playwright-core").Page} page waits until the model has been loaded */
export async function loaded(page) {
  await page.locator("#runs", { hasText: "Web" }).waitFor({ timeout: 120_000 });
}

/** @param {import("playwright-core").Page} page waits until nothing runs */
export async function idle(page) {
  await page.locator("#canvas[aria-busy=false]").waitFor({ timeout: 120_000 });
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
