import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { ask, assertAccessible, idle, launch, loaded, open as opened, serve, smallButtons } from "./browser.js";
import { event, endlessServer } from "./standin.js";

const QUESTION = "On iki artı beş kaç eder?";
const LIST = "Ters sırala: kitap, deniz, okul, elma";
const SYSTEM = "Kısa yanıt ver.";
const KEY = "gizli-anahtar";
const ASKED = "**/v1/chat/completions";
const SCREENSHOTS = process.env.SCREENSHOTS ?? fileURLToPath(new URL("screenshots", import.meta.url));

let server;
let browser;
before(async () => {
  server = await serve("serve", "--port", "0");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  server?.process.kill("SIGINT");
});

/** A page of the server, with the bodies of its questions. */
async function open(options = {}, prepare = async () => {}, address = server.address) {
  const bodies = [];
  const found = await opened(browser, address, options, async (page) => {
    page.on("request", (request) => request.url().endsWith("/completions") && bodies.push(JSON.parse(request.postData())));
    await prepare(page);
  });
  return { ...found, bodies };
}

const turns = (page) => page.locator("#turns > li");
const notice = (page) => page.locator("#notice").innerText();

/** Change the settings, which are folded. */
async function set(page, change) {
  await page.click("#settings summary");
  await change(page);
  await page.click("#settings summary");
}

/** Ask with the options that are set. */
async function say(page, question) {
  await page.fill("#question", question);
  await page.press("#question", "Enter");
  await idle(page);
  return page.locator("#answer").innerText();
}

/** What Python says, of an expression of `model` and `given`. */
function python(expression, given) {
  const code = `import json, sys\nfrom diffutron_ort import Diffutron\nmodel = Diffutron.from_pretrained()\n` +
    `given = json.loads(sys.argv[1])\nprint(json.dumps(${expression}))`;
  const { stdout, stderr } = spawnSync("python", ["-c", code, JSON.stringify(given)], { encoding: "utf8" });
  return JSON.parse(stdout || assert.fail(stderr));
}

describe("a question", () => {
  test("is answered by the server, with what it sent and nothing else, and nobody complains", async () => {
    const { page, context, requests, complaints, bodies } = await open();
    await loaded(page);
    assert.equal(await page.locator("#runs").innerText(), "nano, bu sunucuda");
    assert.equal(await say(page, QUESTION), "on yedi");
    assert.deepEqual(complaints, []);
    assert.deepEqual(bodies, [
      {
        model: "nano",
        messages: [{ role: "user", content: QUESTION }],
        preset: "short",
        temperature: 0,
        stream: true,
        diffusing: true,
        stream_options: { include_usage: true },
        seed: 0,
      },
    ]);
    const paths = requests.map((url) => new URL(url)).map(({ origin, pathname }) => `${origin}${pathname}`);
    const own = new URL(server.address).origin;
    for (const path of paths) assert.ok(path.startsWith(`${own}/`), path);
    for (const path of paths) assert.doesNotMatch(path, /node_modules|\/js\/|worker|browser|host|ending|wasm|onnx/);
    const refused = await page.evaluate(() => {
      const violated = new Promise((resolve) =>
        addEventListener("securitypolicyviolation", ({ effectiveDirective }) => resolve(effectiveDirective)),
      );
      fetch("http://a.invalid/").catch(() => {});
      return violated;
    });
    assert.equal(refused, "connect-src"); // one that leaves would have been stopped
    await context.close();
  });

  test("gets Python's answer, whatever the preset, the seed and the temperature", async () => {
    const { page, context, bodies } = await open();
    await loaded(page);
    await page.click("#settings summary");
    for (const options of [
      { preset: "long", temperature: "2", seed: "1" },
      { preset: "short", temperature: "2", seed: "18446744073709551615" },
      { preset: "fast", temperature: "0,1", seed: "7" },
    ]) {
      const answer = await ask(page, LIST, options);
      const [preset, temperature] = [options.preset, Number(options.temperature.replace(",", "."))];
      const given = { preset, temperature };
      assert.equal(answer, python(`model.generate("${LIST}", seed=${options.seed}, **given)`, given), JSON.stringify(options));
      assert.equal(bodies.at(-1).preset, preset);
      assert.equal(bodies.at(-1).messages.length, 1); // nano is asked each question by itself
    }
    await context.close();
  });

  test("can follow another, with a text of the system, and gets what Python says to all of it", async () => {
    const { page, context, bodies } = await open();
    await loaded(page);
    await set(page, async () => {
      await page.fill("[name=system]", SYSTEM);
      await page.check("[name=history]");
    });
    const first = await say(page, QUESTION);
    const second = await say(page, LIST);
    const messages = [
      { role: "system", content: SYSTEM },
      { role: "user", content: QUESTION },
      { role: "assistant", content: first },
      { role: "user", content: LIST },
    ];
    assert.deepEqual(bodies[1].messages, messages);
    assert.deepEqual([first, second], [python("model.chat(given[:2])", messages), python("model.chat(given)", messages)]);
    assert.equal(await turns(page).count(), 2);
    await context.close();
  });

  test("waits for the server to load its model, and is answered then", async () => {
    let isLoading = true;
    const { page, context } = await open({}, (page) =>
      page.route("**/ready", (route) =>
        isLoading ? route.fulfill({ status: 503, json: { status: "loading" } }) : route.continue(),
      ),
    );
    await page.fill("#question", QUESTION);
    assert.match(await page.locator("#runs").innerText(), /^Model yükleniyor/);
    assert.ok(await page.locator("#progress").isVisible());
    await page.press("#question", "Enter");
    assert.match(await page.locator("#runs").innerText(), /^Sorunuz bekliyor/);
    isLoading = false;
    await loaded(page);
    await idle(page);
    assert.equal(await page.locator("#answer").innerText(), "on yedi");
    await context.close();
  });
});

describe("the steps", () => {
  test("are watched as they come, and the request ends with the stop button", async () => {
    const endless = await endlessServer();
    const { page, context } = await open({ reducedMotion: "no-preference" });
    await loaded(page);
    await page.route(ASKED, (route) => route.continue({ url: endless.address }));
    await page.fill("#question", QUESTION);
    await page.press("#question", "Enter");
    await page.waitForFunction(() => document.querySelector("#step").max >= 3);
    assert.equal(await page.locator("#canvas [data-state=new]").count(), 1);
    assert.equal(await page.locator("#ask").innerText(), "Durdur");
    await page.click("#ask");
    await endless.hungUp;
    await idle(page);
    assert.equal(await page.locator("#ask").innerText(), "Sor");
    assert.match(await turns(page).innerText(), /Durduruldu/);
    assert.equal(await notice(page), "");
    const taken = Number(await page.locator("#taken").innerText());
    assert.ok(taken >= 3, `${taken} steps`);

    await page.unroute(ASKED);
    await set(page, () => page.check("[name=history]"));
    const [request] = await Promise.all([page.waitForRequest(ASKED), say(page, LIST)]);
    assert.deepEqual(request.postDataJSON().messages, [{ role: "user", content: LIST }]); // not what was stopped
    endless.close();
    await context.close();
  });

  test("are stopped by another question, which is answered", async () => {
    const endless = await endlessServer();
    const { page, context } = await open();
    await loaded(page);
    await page.route(ASKED, (route) => route.continue({ url: endless.address }));
    await page.fill("#question", QUESTION);
    await page.press("#question", "Enter");
    await page.waitForFunction(() => document.querySelector("#step").max >= 2);
    await page.unroute(ASKED);
    assert.equal(await say(page, LIST), "elma, okul, deniz, kitap");
    await endless.hungUp;
    assert.equal(await turns(page).count(), 2);
    endless.close();
    await context.close();
  });

  test("are there to go back to with the slider and to be played, those of an earlier turn as well", async () => {
    const { page, context } = await open();
    await loaded(page);
    await say(page, QUESTION);
    const taken = await page.locator("#step").getAttribute("max");
    await say(page, LIST);
    assert.equal(await turns(page).first().locator(".answer").innerText(), "on yedi");
    await turns(page).first().getByRole("button", { name: "Adımlarını göster" }).click();
    assert.equal(await page.locator("#answer").innerText(), "on yedi");
    assert.equal(await page.locator("#step").getAttribute("max"), taken);
    assert.equal(await turns(page).nth(1).locator(".answer").innerText(), "elma, okul, deniz, kitap");
    await page.keyboard.press("Home"); // the slider has the focus
    assert.equal(await page.locator("#canvas [data-state=mask]").count(), 64);
    await page.keyboard.press("ArrowRight");
    assert.match(await page.locator("#said").innerText(), /^yeni: ./);
    assert.equal(await page.locator("#canvas [data-state=mask]").count(), 63);
    await page.keyboard.press("End");
    assert.equal(await page.locator("#canvas [data-state=mask]").count(), 0);
    assert.ok((await page.locator("#canvas [data-state=beyond]").count()) > 50);
    await page.click("#play");
    await idle(page);
    assert.equal(await page.inputValue("#step"), taken);
    await context.close();
  });

  test("have figures, of the context as well", async () => {
    const { page, context } = await open();
    await loaded(page);
    await say(page, QUESTION);
    assert.equal(await page.locator("#taken").innerText(), "32");
    assert.equal(await page.locator("#saved").innerText(), "%50");
    assert.equal(await page.locator("#prompt-tokens").innerText(), "17 / 256");
    assert.ok(Number(await page.locator("#speed").innerText()) > 0);
    await context.close();
  });
});

describe("a token", () => {
  test("tells its confidence on hover, on touch and to the keyboard", async () => {
    const { page, context } = await open({ hasTouch: true });
    await loaded(page);
    await say(page, QUESTION);
    const told = /^▁?yedi\s+güven (> )?%\d+(,\d+)?, \d+\. adımda$/;
    await page.hover("#canvas button >> nth=1");
    assert.match(await page.locator("#note").innerText(), told);
    await page.hover("#question");
    assert.ok(await page.locator("#note").isHidden());
    await page.tap("#canvas button >> nth=1");
    assert.match(await page.locator("#note").innerText(), told);
    await page.focus("#step");
    await page.keyboard.press("Tab");
    const label = () => page.evaluate(() => document.activeElement.ariaLabel);
    await page.keyboard.press("Home");
    assert.match(await label(), /^1\. yer: on, (yeni|yerleşmiş), güven .*%[\d,]+, \d+\. adım$/);
    await page.keyboard.press("ArrowRight");
    assert.match(await page.locator("#note").innerText(), told);
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#note").isHidden());
    await context.close();
  });
});

describe("the conversation", () => {
  test("is there after a reload, and is deleted by a new one", async () => {
    const { page, context, bodies } = await open();
    await loaded(page);
    assert.ok(await page.locator("#new").isHidden());
    await say(page, QUESTION);
    await page.reload();
    await loaded(page);
    assert.equal(await turns(page).locator(".question").innerText(), QUESTION);
    assert.equal(await turns(page).locator(".answer").innerText(), "on yedi");
    await set(page, () => page.check("[name=history]"));
    await say(page, LIST);
    assert.equal(bodies[1].messages.length, 3);
    await page.click("#new");
    assert.equal(await turns(page).count(), 0);
    assert.equal(await page.evaluate(() => localStorage.getItem("talk")), null);
    assert.ok(await page.locator("#canvas").isVisible());
    assert.equal(await page.locator("#canvas [data-state=mask]").count(), 64);
    await say(page, LIST);
    assert.equal(bodies[2].messages.length, 1);
    await context.close();
  });

  test("is led by the keyboard alone", async () => {
    const { page, context } = await open();
    await loaded(page);
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.name || document.activeElement.localName);
    const tabTo = async (name, key = "Tab") => {
      for (let i = 0; i < 20 && (await focused()) !== name; i++) await page.keyboard.press(key);
      assert.equal(await focused(), name);
    };
    await tabTo("question");
    await page.keyboard.type(LIST);
    await tabTo("summary");
    await page.keyboard.press("Enter");
    await tabTo("preset");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await tabTo("seed");
    await page.keyboard.press("Enter");
    await idle(page);
    assert.match(await page.locator("#said").innerText(), /^\d+ adımda bitti: elma, okul, deniz, kitap$/);
    assert.ok(Number(await page.locator("#taken").innerText()) < 20); // with the preset fast
    await tabTo("step", "Shift+Tab");
    await page.keyboard.press("Home");
    assert.equal(await page.locator("#answer").innerText(), "");
    await tabTo("new", "Shift+Tab");
    await page.keyboard.press("Enter");
    assert.equal(await turns(page).count(), 0);
    assert.equal(await focused(), "question");
    await context.close();
  });

  test("keeps what others may have written into the browser's storage out", async () => {
    for (const text of ["{", "5", '[{"question": 1}]', "[null]"]) {
      const { page, context, complaints } = await open({}, (page) =>
        page.addInitScript((text) => localStorage.setItem("talk", text), text),
      );
      await loaded(page);
      assert.equal(await turns(page).count(), 0, text);
      assert.deepEqual(complaints, []);
      await context.close();
    }
  });

  test("shows what was said as text, never as part of the page", async () => {
    const { page, context, complaints } = await open();
    await loaded(page);
    await say(page, "<img src=x onerror=alert(1)> kaç eder?");
    assert.match(await turns(page).locator(".question").innerText(), /^<img src=x/);
    assert.deepEqual(complaints, []);
    await context.close();
  });
});

describe("the page", () => {
  test("speaks Turkish, and English when asked to, and remembers", async () => {
    const { page, context } = await open();
    await loaded(page);
    assert.equal(await page.locator("#ask").innerText(), "Sor");
    await say(page, QUESTION);
    await page.click("[value=en]");
    assert.equal(await page.locator("#ask").innerText(), "Ask");
    assert.equal(await page.locator("#runs").innerText(), "nano, on this server");
    assert.equal(await page.locator("#new").innerText(), "New chat");
    assert.equal(await page.getAttribute("#question", "placeholder"), "Type a question");
    assert.equal(await page.locator(".question").getAttribute("lang"), "tr");
    await page.reload();
    await loaded(page);
    assert.equal(await page.locator("html").getAttribute("lang"), "en");
    await context.close();
  });

  test("fits a phone of 320 pixels, and hides nothing that has the focus", async () => {
    const { page, context } = await open({ viewport: { width: 320, height: 640 }, hasTouch: true });
    const width = () => page.evaluate(() => document.documentElement.scrollWidth);
    await loaded(page);
    for (const language of ["tr", "en"]) {
      await page.click(`[value=${language}]`);
      await say(page, LIST);
      assert.equal(await width(), 320);
      await page.click("#settings summary");
      assert.equal(await width(), 320);
      assert.equal(await smallButtons(page), 0);
      await page.click("#settings summary");
    }
    await page.focus("#step");
    await page.keyboard.press("Tab");
    await page.keyboard.press("End");
    assert.match(await page.evaluate(() => document.activeElement.ariaLabel), /^Place 64/);
    const [cell, composer] = await page.evaluate(() =>
      [document.activeElement, document.querySelector("#composer")].map((element) => element.getBoundingClientRect()),
    );
    assert.ok(cell.bottom <= composer.top, `${cell.bottom} is behind ${composer.top}`);
    await page.fill("#question", "uzun".repeat(300));
    await page.press("#question", "Enter");
    await idle(page);
    assert.equal(await width(), 320);
    assert.ok(await page.locator("#notice").isVisible());
    await context.close();
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`is accessible: ${colorScheme}`, async () => {
      const { page, context } = await open({ colorScheme, bypassCSP: true }); // for the script that looks
      await loaded(page);
      await assertAccessible(page, "at first");
      await say(page, QUESTION);
      await say(page, LIST);
      await page.hover("#canvas button >> nth=1");
      await assertAccessible(page, "after two turns");
      await page.click("#settings summary");
      await assertAccessible(page, "with its settings");
      await page.route(ASKED, (route) => route.fulfill({ status: 401, json: { error: { message: "no key" } } }));
      await page.fill("#question", QUESTION);
      await page.press("#question", "Enter");
      await page.locator("#key").waitFor();
      await assertAccessible(page, "locked");
      await context.close();
    });
  }
});

describe("an error is told in words", () => {
  test("of the question or its options, and goes with the next one", async () => {
    const { page, context } = await open();
    await loaded(page);
    await page.click("#settings summary");
    for (const [question, options, words] of [
      ["", {}, /Önce bir soru yazın/],
      ["uzun ".repeat(300), {}, /en çok 256 token olabilir[^]*256/],
      [QUESTION, { seed: "-1" }, /Tohum, 0 ile/],
      [QUESTION, { temperature: "0.001" }, /Sıcaklık 0 ya da 0,01/],
      ["[Question] ne demek?", {}, /Sunucu bu soruyu kabul etmedi[^]*\[Question\]/],
    ]) {
      await ask(page, question, options);
      assert.match(await notice(page), words);
      assert.equal(await page.inputValue("#question"), question.trim()); // to be mended
      assert.equal(await turns(page).count(), 0);
    }
    assert.equal(await ask(page, QUESTION), "on yedi");
    assert.equal(await notice(page), "");
    await context.close();
  });

  const error = { message: "the server's words", type: "server_error", param: null, code: null };
  const stream = { contentType: "text/event-stream" };
  for (const [what, answer, words, stays] of [
    ["a full queue", { status: 429, headers: { "retry-after": "7" }, json: { error } }, /Sunucu dolu. 7 saniye sonra/, false],
    ["a full queue of unknown length", { status: 429, json: { error } }, /Sunucu dolu. Biraz sonra/, false],
    ["a server that shuts down", { status: 503, headers: { "retry-after": "5" }, json: { error } }, /ya da kapanıyor. 5 saniye/, false],
    ["a deadline", { status: 503, json: { error: { ...error, code: "deadline_exceeded" } } }, /yanıtı bitiremedi/, false],
    ["a model that is no longer there", { status: 404, json: { error } }, /bu model artık yok/, false],
    ["a talk that is too large", { status: 413, json: { error } }, /çok büyük/, false],
    ["a failure", { status: 500, json: { error } }, /Beklenmeyen bir hata/, false],
    ["a proxy's failure", { status: 502, contentType: "text/html", body: "<h1>Bad Gateway</h1>" }, /Beklenmeyen bir hata/, false],
    ["a late failure", { ...stream, body: `${event(0)}${event(1)}data: ${JSON.stringify({ error })}\n\n` }, /yanıtı bitiremedi/, true],
    ["a failure before the first step", { ...stream, body: `${event(0)}data: ${JSON.stringify({ error })}\n\n` }, /yanıtı bitiremedi/, false],
    ["an answer that is cut off", { ...stream, body: event(0) + event(1) }, /Bağlantı yanıtın ortasında koptu/, true],
    ["nonsense", { ...stream, body: "data: {\n\n" }, /Bağlantı yanıtın ortasında koptu/, false],
  ]) {
    test(`of ${what}`, async () => {
      const { page, context } = await open();
      await loaded(page);
      await page.route(ASKED, (route) => route.fulfill(answer));
      await say(page, QUESTION);
      assert.match(await notice(page), words);
      if (JSON.stringify(answer).includes(error.message)) assert.match(await notice(page), /the server's words/);
      assert.equal(await turns(page).count(), stays ? 1 : 0);
      assert.equal(await page.inputValue("#question"), stays ? "" : QUESTION);
      if (stays) assert.match(await turns(page).innerText(), /Yarıda kaldı/);
      await page.unroute(ASKED);
      assert.equal(await say(page, QUESTION), "on yedi");
      assert.equal(await notice(page), "");
      await context.close();
    });
  }

  test("of a server that has gone, and the page goes on when it is back", async () => {
    const { page, context } = await open({}, (page) => page.route("**/ready", (route) => route.abort()));
    await page.locator("#notice p").first().waitFor();
    assert.match(await notice(page), /Sunucuya ulaşılamıyor. diffutron-ort serve/);
    await page.click("#ask");
    await page.locator("#notice", { hasText: "Önce bir soru yazın" }).waitFor();
    await page.fill("#question", QUESTION);
    await page.press("#question", "Enter");
    await page.locator("#notice", { hasText: "Sunucuya ulaşılamıyor" }).waitFor();
    await page.unroute("**/ready");
    await say(page, QUESTION);
    assert.equal(await page.locator("#answer").innerText(), "on yedi");
    await page.route(ASKED, (route) => route.abort());
    await say(page, LIST);
    assert.match(await notice(page), /Sunucuya ulaşılamıyor/);
    assert.equal(await turns(page).count(), 1);
    assert.equal(await page.locator("#answer").innerText(), "on yedi"); // the last turn that has steps is on show again
    await context.close();
  });

  test("of an answer that has all the tokens it could have", async () => {
    const { page, context } = await open();
    await loaded(page);
    const closing = { usage: { total_tokens: 80 }, choices: [] };
    const last = event(64, { choices: [{ delta: { content: "a" }, finish_reason: "length" }] });
    const body = `${event(0)}${last}data: ${JSON.stringify(closing)}\n\ndata: [DONE]\n\n`;
    await page.route(ASKED, (route) => route.fulfill({ contentType: "text/event-stream", body }));
    await say(page, QUESTION);
    assert.match(await turns(page).innerText(), /token sınırında kesildi/);
    await context.close();
  });

  test("of a key, which is asked for and kept in the tab alone", async () => {
    const locked = await serve("serve", "--port", "0", "--api-key", KEY);
    const { page, context, requests } = await open({}, undefined, locked.address);
    await page.locator("#key").waitFor();
    assert.match(await notice(page), /bir API anahtarı istiyor/);
    assert.ok(await page.locator("#question").isHidden());
    await page.keyboard.type("yanlış"); // it has the focus
    await page.keyboard.press("Enter");
    await page.locator("#notice", { hasText: "kabul etmedi" }).waitFor();
    await page.fill("#key", KEY);
    await page.keyboard.press("Enter");
    await loaded(page);
    assert.equal(await notice(page), "");
    assert.equal(await say(page, QUESTION), "on yedi");
    assert.ok(!requests.some((url) => url.includes(KEY)));
    assert.doesNotMatch(await page.evaluate(() => JSON.stringify(localStorage)), new RegExp(KEY));
    await page.reload();
    await loaded(page);
    assert.equal(await say(page, QUESTION), "on yedi");
    locked.process.kill("SIGINT");
    await context.close();
  });
});

test("screenshots", async () => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  const desktop = { viewport: { width: 960, height: 1210 } };
  for (const [name, options, back, language] of [
    ["light", desktop, 2, "tr"],
    ["dark", { ...desktop, viewport: { width: 960, height: 1060 }, colorScheme: "dark" }, 0, "en"],
    ["phone", { viewport: { width: 360, height: 740 }, colorScheme: "dark", deviceScaleFactor: 1.5 }, 1, "tr"],
  ]) {
    const { page, context } = await open(options);
    await loaded(page);
    await page.click(`[value=${language}]`);
    await say(page, QUESTION);
    await say(page, LIST);
    await page.focus("#step");
    for (let i = 0; i < back; i++) await page.keyboard.press("ArrowLeft");
    await page.evaluate(() => document.activeElement.blur());
    await page.hover("#canvas button >> nth=4");
    await page.screenshot({ path: `${SCREENSHOTS}/serve-${name}.png` }); // the window: the question stays at its foot
    await context.close();
  }
});
