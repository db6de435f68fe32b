import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { expected } from "../../js/test/python.js";
import {
  PATIENCE,
  ask,
  assertAccessible,
  holdPasses,
  idle,
  launch,
  loaded,
  open as opened,
  serve,
  smallButtons,
} from "./browser.js";

const QUESTION = "On iki artı beş kaç eder?";
const LIST = "Ters sırala: kitap, deniz, okul, elma";
const SCREENSHOTS = process.env.SCREENSHOTS ?? fileURLToPath(new URL("screenshots", import.meta.url));

let server;
let browser;
before(async () => {
  server = await serve("demo", "--no-open", "--port", "0");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.process.kill("SIGINT");
});

/** @param {import("playwright-core").BrowserContextOptions & { query?: string }} [options] */
const open = ({ query = "", ...options } = {}, prepare = async () => {}) =>
  opened(browser, server.address + query, options, prepare);

/**
 * Let a page find other generations in the bundle, with their place in the manifest.
 *
 * @param {import("playwright-core").Page} page @param {(generations: any[]) => unknown} change
 */
async function recordOthers(page, change) {
  await page.route("**/*.json", async (route) => {
    const read = async (name) => (await fetch(new URL(`../models/nano/${name}`, server.address))).json();
    const cases = await read("conformance.json");
    change(cases.generations);
    const content = JSON.stringify(cases);
    if (route.request().url().endsWith("/conformance.json")) return route.fulfill({ body: content });
    if (!route.request().url().endsWith("/diffutron.json")) return route.continue();
    const manifest = await read("diffutron.json");
    const sha256 = createHash("sha256").update(content).digest("hex");
    manifest.files["conformance.json"] = { size: Buffer.byteLength(content), sha256 };
    return route.fulfill({ json: manifest });
  });
}

describe("a question", () => {
  test("is answered with Enter, by what this server has, and nobody complains", async () => {
    const { page, context, requests, complaints } = await open();
    assert.equal(await page.inputValue("#question"), QUESTION);
    await page.press("#question", "Enter"); // at once: it waits for the model
    await loaded(page);
    await idle(page);
    assert.equal(await page.locator("#answer").innerText(), "on yedi");
    const threads = await page.evaluate(() => Math.min(navigator.hardwareConcurrency, 4));
    assert.equal(await page.locator("#runs").innerText(), `WebAssembly, ${threads} iş parçacığı`);
    assert.ok(await page.evaluate(() => crossOriginIsolated));
    assert.deepEqual(complaints, []);

    const origins = () => new Set(requests.filter((url) => !url.startsWith("blob:")).map((url) => new URL(url).origin));
    for (const file of ["icon.svg", ".wasm", "denoiser.onnx.data"]) assert.ok(requests.some((url) => url.endsWith(file)), file);
    assert.deepEqual([...origins()], [new URL(server.address).origin]);
    const refused = await page.evaluate(() => {
      const code = `addEventListener("securitypolicyviolation", (event) => postMessage(event.effectiveDirective));
        fetch("http://a.invalid/").catch(() => setTimeout(() => postMessage("nothing"), 60_000));`;
      const worker = new Worker(URL.createObjectURL(new Blob([code])));
      return new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
    });
    assert.equal(refused, "connect-src"); // one that leaves would have been stopped, even a worker's
    await context.close();
  });

  test("gets Python's answer in Python's steps, at temperatures 0 and 0.1 with three seeds", async () => {
    const { page, context } = await open();
    await loaded(page);
    const wanted = expected("answers").filter((_, i) => i % 3 === 0); // every question; Node's test takes all 120 answers
    assert.equal(wanted.length, 40);
    assert.ok(new Set(wanted.map(({ text }) => text)).size > 15);
    for (const { prompt, options, text, steps } of wanted) {
      const answer = await ask(page, prompt, { ...options, temperature: String(options.temperature) });
      const which = JSON.stringify({ prompt, ...options });
      assert.equal(answer, text, which);
      assert.equal(await page.locator("#step").getAttribute("max"), String(steps.length), which);
    }
    await context.close();
  });

  test("gets another answer with another seed where it is hot, and Python's", async () => {
    const { page, context } = await open();
    await loaded(page);
    const answers = new Set();
    for (const seed of ["1", "2", "18446744073709551615"]) {
      const options = ["--preset", "long", "--temperature", "2", "--seed", seed];
      const python = spawnSync("python", ["-m", "diffutron_ort.cli", "generate", LIST, ...options], { encoding: "utf8" });
      const answer = await ask(page, LIST, { preset: "long", temperature: "2", seed });
      assert.equal(answer, python.stdout.trim(), python.stderr);
      answers.add(answer);
    }
    assert.equal(answers.size, 3);
    await context.close();
  });

  test("is answered by every preset, which tell what they saved", async () => {
    const { page, context } = await open();
    await loaded(page);
    for (const [preset, places, label] of [
      ["short", 64, "geçiş erken bitişle atlandı"],
      ["long", 128, "geçiş erken bitişle atlandı"],
      ["fast", 64, "geçiş erken bitiş ve toplu yerleştirmeyle atlandı"],
    ]) {
      assert.equal(await ask(page, QUESTION, { preset }), "on yedi", preset);
      assert.equal(await page.locator("#canvas button").count(), places);
      const taken = Number(await page.locator("#taken").innerText());
      const saved = Math.round(100 * (1 - taken / places));
      assert.equal(await page.locator("#saved").innerText(), `%${saved}`);
      assert.equal(await page.locator("#saved-label").innerText(), label);
      assert.ok(saved >= 50);
      assert.ok(Number(await page.locator("#speed").innerText()) > 0);
    }
    await context.close();
  });

  test("waits for the model where one sees it, and is answered then", async () => {
    let go;
    const gate = new Promise((resolve) => (go = resolve));
    const { page, context } = await open({}, (page) =>
      page.route("**/denoiser.onnx.data", async (route) => {
        await gate;
        await route.continue();
      }),
    );
    const runs = () => page.locator("#runs").innerText();
    await page.locator("#bytes", { hasText: "MB" }).waitFor();
    assert.match(await runs(), /^Model yükleniyor/);
    assert.match(await page.locator("#bytes").innerText(), /^15,8 MB’nin \d,\d MB’si, %\d+$/);
    await page.waitForFunction(() => document.querySelector("#progress").value > 0);
    const share = await page.evaluate(() => document.querySelector("#progress").value);
    assert.ok(share < 0.1, `${share}`); // the graph, without its weights
    await page.press("#question", "Enter");
    assert.match(await runs(), /^Sorunuz bekliyor/);
    await page.fill("#question", "");
    await page.press("#question", "Enter"); // is refused, and loading goes on
    assert.match(await page.locator("#notice").innerText(), /Önce bir soru/);
    assert.match(await runs(), /^Model yükleniyor/);
    assert.ok(await page.locator("#progress").isVisible());
    await page.fill("#question", QUESTION);
    await page.press("#question", "Enter");
    go();
    await loaded(page);
    await idle(page);
    assert.equal(await page.locator("#answer").innerText(), "on yedi");
    assert.ok(await page.locator("#progress").isHidden());
    await context.close();
  });

  test("cannot be asked, and is not lost, before the page's script runs", async () => {
    let go;
    const gate = new Promise((resolve) => (go = resolve));
    const context = await browser.newContext({ reducedMotion: "reduce", locale: "tr-TR" });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    await page.route("**/app.js", async (route) => {
      await gate;
      await route.continue();
    });
    await page.goto(server.address, { waitUntil: "commit" });
    await page.fill("#question", LIST);
    await page.press("#question", "Enter");
    assert.ok(await page.isDisabled("#ask"));
    go();
    await page.locator("#ask:enabled").waitFor();
    assert.equal(page.url(), server.address); // nothing was sent
    assert.equal(await page.inputValue("#question"), LIST);
    await page.click("#ask");
    await loaded(page);
    await idle(page);
    assert.equal(await page.locator("#answer").innerText(), "elma, okul, deniz, kitap");
    await context.close();
  });

  test("is answered on a graphics card, simulated", async () => {
    const gpu = await launch("--enable-unsafe-webgpu");
    const page = await gpu.newPage({ reducedMotion: "reduce", locale: "tr-TR" });
    page.setDefaultTimeout(PATIENCE);
    await page.goto(`${server.address}?device=webgpu`);
    await loaded(page);
    assert.match(await page.locator("#runs").innerText(), /^WebGPU$/);
    for (const [question, answer] of [
      [QUESTION, "on yedi"],
      [LIST, "elma, okul, deniz, kitap"],
    ]) {
      assert.equal(await ask(page, question, { preset: "fast" }), answer);
    }
    await page.goto(`${server.address}?device=webgpu&variant=int8`); // has no exact steps recorded
    await loaded(page);
    assert.equal(await ask(page, QUESTION, { preset: "fast" }), "on yedi");
    await gpu.close();
  });

  test("is not answered by a graphics card that computes wrongly, or cannot be checked", async () => {
    const gpu = await launch("--enable-unsafe-webgpu");
    const page = await gpu.newPage({ reducedMotion: "reduce", locale: "tr-TR" });
    page.setDefaultTimeout(PATIENCE);
    await recordOthers(page, (cases) => cases.forEach(({ steps }) => steps.forEach(({ tokens }) => tokens[0]++)));
    for (const variant of ["int8", "fp32"]) {
      await page.goto(`${server.address}?device=webgpu&variant=${variant}`);
      await page.locator("#notice p").first().waitFor();
      assert.match(await page.locator("#notice").innerText(), /Ekran kartı.*yanlış hesaplıyor/); // a wrong one is found out
    }
    await page.unroute("**/*.json");
    await recordOthers(page, (cases) => cases.splice(0));
    await page.reload();
    await page.locator("#notice p").first().waitFor();
    assert.match(await page.locator("#notice").innerText(), /ekran kartında denetlenemiyor/);
    await gpu.close();
  });

  test("is answered by as many threads as one says", async () => {
    const { page, context, complaints } = await open({ query: "?threads=3" });
    await loaded(page);
    assert.match(await page.locator("#runs").innerText(), /WebAssembly, 3 iş parçacığı/);
    assert.equal(await ask(page, QUESTION), "on yedi");
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test("is answered by WebAssembly where the graphics card cannot", async () => {
    const { page, context } = await open({}, (page) =>
      page.route("**/host.js", async (route) => {
        const body = (await (await route.fetch()).text()).replace(/return adapter && .* \?/, "return true ?");
        await route.fulfill({ body, contentType: "text/javascript" });
      }),
    );
    await loaded(page);
    assert.match(await page.locator("#runs").innerText(), /WebAssembly/);
    assert.equal(await ask(page, QUESTION), "on yedi");
    await context.close();
  });
});

describe("the steps", () => {
  test("are watched one by one, can be stopped, and another question asked", async () => {
    let allow;
    const { page, context } = await open({ reducedMotion: "no-preference" }, async (page) => (allow = await holdPasses(page)));
    const step = (name, value) =>
      page.waitForFunction(([name, value]) => document.querySelector("#step")[name] === value, [name, String(value)]);
    await loaded(page);
    await page.check("[value=long]");
    await page.press("#question", "Enter");
    await allow(3);
    await step("max", 3);
    assert.equal(await page.locator("[data-state=new]").count(), 2); // a place, and the legend's
    await page.focus("#step");
    await page.keyboard.press("Home"); // it stays at the beginning, and the model goes on
    await allow(3);
    await step("max", 6);
    assert.equal(await page.inputValue("#step"), "0");
    assert.equal(await page.locator("#said").innerText(), "hepsi maskeli");
    await page.keyboard.press("End");
    await allow(2);
    await step("value", 8); // it follows again
    const least = await page.evaluate(async () => {
      const [step, canvas] = ["#step", "#canvas"].map((name) => document.querySelector(name));
      document.querySelector("#play").click();
      globalThis.allow(1);
      for (let least = Infinity; ; least = Math.min(least, step.value)) {
        if (canvas.ariaBusy === "false") return least;
        await new Promise(requestAnimationFrame);
      }
    });
    assert.ok(least > 0); // it did not begin to play
    assert.doesNotMatch(await page.locator("#said").innerText(), /bitti/);
    assert.equal(await page.locator("#taken").innerText(), "8");
    assert.equal(await allow(0), 0); // nobody waits for a pass
    await page.press("#question", "Enter");
    assert.equal(await page.locator("#canvas").getAttribute("aria-busy"), "true");
    await page.fill("#question", LIST);
    await page.check("[value=fast]");
    await page.press("#question", "Enter"); // while the last one runs
    await allow(1000);
    await idle(page);
    assert.equal(await page.locator("#answer").innerText(), "elma, okul, deniz, kitap");
    await context.close();
  });

  test("are there to go back to with the slider, by arrow keys, and are told", async () => {
    const { page, context } = await open();
    await loaded(page);
    await ask(page, QUESTION);
    const slider = page.locator("#step");
    const last = Number(await slider.inputValue());
    await slider.focus();
    await page.keyboard.press("ArrowLeft");
    assert.equal(await slider.getAttribute("aria-valuetext"), `${last - 1} / ${last}`);
    assert.match(await page.locator("#said").innerText(), /^yeni: ./);
    assert.notEqual(await page.locator("#answer").innerText(), "on yedi");
    await page.keyboard.press("Home");
    assert.equal(await page.locator("#canvas [data-state=mask]").count(), 64);
    assert.equal(await page.locator("#answer").innerText(), "");
    for (let step = 1; step <= 3; step++) {
      await page.keyboard.press("ArrowRight");
      assert.equal(await page.locator("#canvas [data-state=mask]").count(), 64 - step);
      assert.equal(await page.locator("#canvas [data-state=new]").count(), 1);
      assert.equal(await page.locator("#canvas [data-state=settled]").count(), step - 1);
    }
    await page.keyboard.press("End");
    assert.equal(await page.locator("#answer").innerText(), "on yedi");
    assert.equal(await page.locator("#canvas [data-state=mask]").count(), 0);
    await context.close();
  });

  test("are played again", async () => {
    const { page, context } = await open();
    await loaded(page);
    await ask(page, QUESTION, { preset: "fast" });
    await page.emulateMedia({ reducedMotion: "no-preference" });
    const first = await page.evaluate(async () => {
      document.querySelector("#play").click();
      await new Promise((resolve) => setTimeout(resolve));
      return document.querySelector("#step").value;
    });
    assert.equal(first, "0");
    await idle(page);
    assert.equal(await page.inputValue("#step"), await page.locator("#step").getAttribute("max"));
    await context.close();
  });
});

describe("a token", () => {
  test("tells its confidence on hover", async () => {
    const { page, context } = await open();
    await loaded(page);
    await ask(page, QUESTION);
    await page.hover("#canvas button >> nth=1");
    assert.match(await page.locator("#note").innerText(), /^▁?yedi\s+güven (> )?%\d+(,\d+)?, \d+\. adımda$/);
    await page.hover("#canvas button >> nth=-1");
    assert.ok(await page.locator("#note").isHidden()); // never computed: the answer ended before
    const heights = await page.locator("#canvas .block").evaluateAll((all) => all.map(({ offsetHeight }) => offsetHeight));
    assert.ok(heights[1] < heights[0] / 2, `${heights}`); // and takes no room
    assert.equal(await page.locator("#spared").innerText(), String(await page.locator("#canvas [data-state=beyond]").count()));
    await page.hover("#canvas button >> nth=2");
    assert.match(await page.locator("#note").innerText(), /^⏎/);
    await page.hover("h1");
    assert.ok(await page.locator("#note").isHidden());
    await context.close();
  });

  test("is reached and tells of itself by the keyboard alone, from the top of the page", async () => {
    const { page, context } = await open();
    await loaded(page);
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.name);
    const tabTo = async (name) => {
      for (let i = 0; i < 20 && (await focused()) !== name; i++) await page.keyboard.press("Tab");
      assert.equal(await focused(), name);
    };
    await tabTo("question");
    await page.keyboard.press("Control+A");
    await page.keyboard.type(LIST);
    await tabTo("preset");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    assert.ok(await page.isChecked("[value=fast]"));
    await tabTo("seed");
    await page.keyboard.press("Enter");
    await idle(page);
    assert.equal(await page.locator("#answer").innerText(), "elma, okul, deniz, kitap");
    assert.match(await page.locator("#said").innerText(), /^\d+ adımda bitti: elma, okul, deniz, kitap$/);

    await tabTo("play");
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "step");
    await page.keyboard.press("Tab");
    const label = () => page.evaluate(() => document.activeElement.ariaLabel);
    assert.match(await label(), /^1\. yer: elma, (yeni|yerleşmiş), güven .*%[\d,]+, \d+\. adım$/);
    assert.ok(await page.locator("#note").isVisible());
    await page.keyboard.press("ArrowRight");
    assert.match(await label(), /^2\. yer: ,,/);
    await page.keyboard.press("ArrowDown");
    assert.match(await label(), /^10\. yer: /);
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#note").isHidden());
    await page.keyboard.press("End");
    assert.equal(await label(), "64. yer: gerekmedi");
    await page.keyboard.press("ArrowRight");
    assert.equal(await label(), "64. yer: gerekmedi");
    await context.close();
  });
});

describe("the page", () => {
  test("speaks the browser's language, which is English unless it is Turkish", async () => {
    for (const [locale, language] of [
      ["en-US", "en"],
      ["de-DE", "en"],
      ["tr", "tr"],
      ["tr-CY", "tr"],
      ["tru", "en"],
    ]) {
      const { page, context } = await open({ locale });
      await page.locator("#ask:enabled").waitFor();
      assert.equal(await page.locator("html").getAttribute("lang"), language, locale);
      await context.close();
    }
  });

  test("speaks Turkish, and English when asked to, and remembers", async () => {
    const { page, context } = await open();
    await loaded(page);
    const language = () => page.locator("html").getAttribute("lang");
    assert.equal(await language(), "tr");
    assert.equal(await page.locator("#ask").innerText(), "Sor");
    await page.click("[value=en]");
    assert.equal(await language(), "en");
    assert.equal(await page.locator("#ask").innerText(), "Ask");
    assert.equal(await page.locator("[value=en]").getAttribute("aria-pressed"), "true");
    assert.equal(await page.locator("#answer").getAttribute("lang"), "tr");
    await ask(page, QUESTION);
    assert.match(await page.locator("#canvas button >> nth=0").getAttribute("aria-label"), /^Place 1: on, .*confidence .*%/);
    await page.reload();
    await loaded(page);
    assert.equal(await language(), "en");
    await page.click("[value=tr]");
    assert.equal(await page.locator("#ask").innerText(), "Sor");
    await context.close();
  });

  test("fits a phone", async () => {
    const { page, context } = await open({ viewport: { width: 320, height: 740 }, hasTouch: true });
    const width = () => page.evaluate(() => document.documentElement.scrollWidth);
    const edges = await page.evaluate(() =>
      [".languages", "main"].map((part) => document.querySelector(part).getBoundingClientRect().right),
    );
    assert.ok(edges[0] <= edges[1], `the header ends at ${edges[0]}, the page at ${edges[1]}`);
    await loaded(page);
    for (const language of ["tr", "en"]) {
      await page.click(`[value=${language}]`);
      await ask(page, LIST, { preset: "long" });
      await page.locator("#canvas button >> nth=3").tap();
      assert.ok(await page.locator("#note").isVisible());
      assert.equal(await width(), 320);
      await ask(page, "uzun ".repeat(300));
      assert.ok(await page.locator("#notice").isVisible());
      assert.equal(await width(), 320);
    }
    assert.equal(await smallButtons(page), 0);
    await context.close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`is accessible: ${colorScheme}`, async () => {
      const { page, context } = await open({ colorScheme, bypassCSP: true }); // for the script that looks
      await loaded(page);
      await assertAccessible(page, "at first");
      await ask(page, QUESTION);
      await page.hover("#canvas button >> nth=1");
      await assertAccessible(page, "answered");
      await page.focus("#step");
      await page.keyboard.press("ArrowLeft");
      await assertAccessible(page, "a step back");
      await ask(page, "");
      await assertAccessible(page, "refused");
      await page.evaluate(() => (document.querySelector("footer").style.opacity = "0.5"));
      await assert.rejects(assertAccessible(page, "spoiled"), /color-contrast/);
      await context.close();
    });
  }
});

describe("an error is told in words", () => {
  const notice = (page) => page.locator("#notice").innerText();

  test("of the question or its options, and goes with the next one", async () => {
    const { page, context } = await open();
    await loaded(page);
    for (const [question, options, words] of [
      ["", {}, /Önce bir soru yazın/],
      ["uzun ".repeat(300), {}, /en çok 256 token olabilir[^]*the model's context is 256/],
      [QUESTION, { seed: "-1" }, /Tohum, 0 ile/],
      [QUESTION, { seed: "18446744073709551616" }, /Tohum, 0 ile/],
      [QUESTION, { temperature: "0.001" }, /Sıcaklık 0 ya da 0,01/],
      [QUESTION, { temperature: "sıcak" }, /Sıcaklık/],
    ]) {
      await ask(page, question, options);
      assert.match(await notice(page), words);
    }
    assert.equal(await page.locator("[name=temperature]").getAttribute("aria-invalid"), "true");
    await page.click("[value=en]");
    assert.match(await notice(page), /The temperature must be 0/);
    await page.evaluate(() => (document.querySelector("#question").value = "yarım \ud83d"));
    await page.fill("[name=temperature]", "0");
    await page.press("#question", "Enter");
    await idle(page);
    assert.match(await notice(page), /cannot be answered[^]*half of a surrogate pair/); // and is not called too long
    assert.equal(await ask(page, QUESTION, { temperature: "0,1" }), "on yedi");
    assert.equal(await notice(page), "");
    await context.close();
  });

  test("of a page that no server serves", async () => {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(new URL("../index.html", import.meta.url).href);
    await page.locator(".late").waitFor({ state: "visible" });
    assert.match(await notice(page), /bir sunucudan açılmalıdır: diffutron-ort demo/);
    await page.close();
  });

  for (const [what, query, pattern, words] of [
    ["a model that is not there", "?model=../models/none", undefined, /Bu adreste model bulunamadı[^]*404/],
    ["a model elsewhere", "?model=http://elsewhere.invalid/nano", undefined, /bu sayfanın sunucusunda olmalı/],
    ["a variant that is not there", "?variant=int3", undefined, /Bu seçenekler[^]*int3/],
    ["libraries that are not installed", "", "**/node_modules/**", /diffutron-ort demo.*npm ci --ignore-scripts/],
    ["a server that has gone", "", "**/*.onnx", /Sunucuya ulaşılamıyor/],
  ]) {
    test(`of ${what}`, async () => {
      const { page, context } = await open({ query }, async (page) => {
        if (pattern) await page.route(pattern, (route) => route.abort());
      });
      await page.locator("#notice p").first().waitFor();
      assert.match(await notice(page), words);
      await context.close();
    });
  }

  for (const [what, pattern, change] of [
    ["weights that were cut", "**/denoiser.onnx.data", (body) => body.subarray(1)],
    ["weights that do not end", "**/denoiser.onnx.data", (body) => Buffer.concat([body, body])],
    ["a graph that was changed", "**/denoiser.onnx", (body) => body.fill(1, 100, 101)],
    ["a tokenizer that was changed", "**/tokenizer.json", (body) => body.fill(32, 1, 2)],
  ]) {
    test(`of ${what}`, async () => {
      const { page, context } = await open({}, (page) =>
        page.route(pattern, async (route) => route.fulfill({ body: change(await (await route.fetch()).body()) })),
      );
      await page.locator("#notice p").first().waitFor();
      assert.match(await notice(page), /Model bozuk[^]*(bytes|was changed)/);
      await context.close();
    });
  }

  test("of a manifest from the future", async () => {
    const { page, context } = await open({}, (page) =>
      page.route("**/diffutron.json", (route) => route.fulfill({ body: '{"format": 99}' })),
    );
    await page.locator("#notice p").first().waitFor();
    assert.match(await notice(page), /Model bozuk[^]*format 99/);
    await context.close();
  });
});

test("screenshots", async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  const shot = (page, name) => page.screenshot({ path: `${SCREENSHOTS}/demo-${name}.png`, fullPage: true });
  const desktop = { viewport: { width: 960, height: 900 } };
  for (const [name, options, back, language] of [
    ["light", desktop, 2, "tr"],
    ["dark", { ...desktop, colorScheme: "dark" }, 0, "en"],
    ["phone", { viewport: { width: 360, height: 740 }, colorScheme: "dark", deviceScaleFactor: 1.5 }, 1, "tr"],
  ]) {
    const { page, context } = await open(options);
    await loaded(page);
    await page.click(`[value=${language}]`);
    await ask(page, LIST);
    await page.focus("#step");
    for (let i = 0; i < back; i++) await page.keyboard.press("ArrowLeft");
    await page.evaluate(() => document.activeElement.blur());
    await page.hover("#canvas button >> nth=2");
    await shot(page, name);
    await context.close();
  }
});
