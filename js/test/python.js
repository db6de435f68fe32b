/** What Python says, asked at test time. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("expected.py", import.meta.url));

/** The folder of the embedded bundle. */
export const NANO = fileURLToPath(new URL("../../models/nano", import.meta.url));

/** One thread a session, as in expected.py: files of tests run side by side, and waiting threads would spin. */
export const QUIET = { threads: 1 };

/**
 * @param {"tokens" | "options" | "answers" | "texts" | "trajectories" | "stops"} section
 * @returns {any} what expected.py writes of it
 */
export function expected(section) {
  const folder = mkdtempSync(join(tmpdir(), "diffutron-"));
  try {
    const file = join(folder, "expected.json");
    const { error, status, stderr } = spawnSync("python", [SCRIPT, section, file], { encoding: "utf8" });
    if (error || status) {
      throw new Error(
        `python cannot say what to expect (${error?.message ?? `exit code ${status}`}): put one on PATH that has ` +
          `diffutron-ort, as by \`pip install -e ".[cpu]"\` in the repository's root\n${stderr ?? ""}`,
      );
    }
    return JSON.parse(readFileSync(file, "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
