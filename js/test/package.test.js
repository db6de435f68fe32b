/** What npm would publish, and what a program gets that imports the package by its name. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SHARED = ["BundleError", "ContextError", "Diffutron", "DiffutronError", "InputError", "MissingFileError"].concat([
  "NetworkError",
  "NumericsError",
  "OptionError",
  "PRESETS",
  "Tokens",
  "renderChat",
]);

/** @param {string} folder @returns {string[]} the paths of the files in it, as npm writes them */
function filesIn(folder) {
  const entries = readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(ROOT.length).replaceAll("\\", "/"));
}

test("npm packs the sources, the types, the licence and the README, and nothing else", () => {
  const { status, stdout, stderr } = spawnSync("npm", ["pack", "--dry-run", "--json"], {
    cwd: ROOT,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  assert.equal(status, 0, stderr);
  const [{ files }] = JSON.parse(stdout);
  const packed = files.map((/** @type {{ path: string }} */ { path }) => path);
  const wanted = ["LICENSE", "README.md", "package.json", ...filesIn("src"), ...filesIn("types")];
  assert.deepEqual(packed.sort(), wanted.sort());
  assert.ok(wanted.includes("src/web.js") && wanted.includes("types/index.d.ts"));
});

/** @param {string} entry @param {string} host */
async function assertExports(entry, host) {
  assert.deepEqual(Object.keys(await import(entry)).sort(), [...SHARED, host].sort());
}

test("an error has the name of its class", async () => {
  const classes = Object.entries(await import("../src/errors.js"));
  assert.ok(classes.length > 5);
  for (const [name, Class] of classes) assert.equal(new Class("why").name, name);
});

test("the package's name leads to the entry for Node", () => assertExports("diffutron-ort", "nodeHost"));

test("the entry for browsers imports nothing that a page would have to resolve", async () => {
  await assertExports("../src/web.js", "webHost");
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", WITHOUT_PACKAGES], { cwd: ROOT });
  assert.equal(status, 0, String(stderr));
});

// Refuses every import that is not relative, and so Node's own modules and those of other packages.
const WITHOUT_PACKAGES = `
import { register } from "node:module";
const hooks = "export const resolve = (name, context, next) => { " +
  "if (context.parentURL?.includes('/js/src/') && !name.startsWith('./')) throw new Error(name); " +
  "return next(name, context); };";
register("data:text/javascript," + encodeURIComponent(hooks));
await import("./src/web.js");
const { message } = await import("./src/node.js").catch((error) => error);
if (!message?.includes("@huggingface/tokenizers")) throw new Error("node.js should have been refused: " + message);
`;
