/** The page: a question in, the steps of its answer out, and a way back through them. */

import { keep, recall } from "./kept.js";
import { ModelError } from "./model.js";
import { Player } from "./player.js";
import { megabytes, percent, texts } from "./strings.js";
import { Talk } from "./talk.js";

const EXAMPLES = [
  "Ters sırala: kitap, deniz, okul, elma",
  "Hangi ülkenin başkenti Viyana?",
  "Sokak kelimesine -de eki getir.",
];
const NANO = "nano"; // the embedded model's name
const LOCKED = ["locked", "wrongKey"]; // errors that a key mends
const MODELS = { browser: () => import("./browser.js"), server: () => import("./server.js") };

/** @param {string} id @returns {any} */
const get = (id) => document.getElementById(id);
/** @type {any} */
const form = get("form");
const where = /** @type {keyof typeof MODELS} */ (document.documentElement.dataset.model);
const { Model } = await MODELS[where]();
/** @type {any} */
const model = new Model();
const player = new Player(() => render());
const talk = where === "server" ? new Talk(get("turns"), get("stage"), show) : undefined;

let language = ["tr", "en"].find((one) => one === recall("localStorage", "language"));
language ??= /^tr\b/i.test(navigator.language) ? "tr" : "en";
/** in bytes */
let progress = { loaded: 0, total: 0 };
/** @type {import("./model.js").Loaded | undefined} */
let loaded;
let hasFailed = false; // to load
/** @type {{ kind: string, message: string, facts: object } | undefined} */
let problem;
let activity = new AbortController(); // of the generation or the replay
let active = false;
let turn = Promise.resolve();
let ready = load();

/** @returns {Promise<void>} settles when the model has been loaded, or cannot be */
function load() {
  const loading = open();
  hasFailed = false;
  loading.catch((error) => {
    hasFailed = true;
    report(error);
    render();
  });
  return loading;
}

async function open() {
  loaded = await model.load((/** @type {typeof progress} */ now) => {
    progress = now;
    render();
  });
  form.temperature.defaultValue = loaded.presets.short.temperature; // which leaves alone what somebody has typed
  form.history.checked = loaded.name !== NANO; // which was trained on single questions
  preview();
}

/** Show the canvas of the chosen preset as long as there is no answer. */
function preview() {
  if (loaded && !player.run) player.preview(chosen());
}

/** @param {import("./player.js").Run | undefined} run */
function show(run) {
  if (run) player.open(run);
  else if (loaded) player.preview(chosen());
}

/** @returns {import("./model.js").Config} the options of the preset that is chosen */
function chosen() {
  return loaded.presets[form.preset.value];
}

/** @param {(signal: AbortSignal) => Promise<void>} work to run when the previous one has stopped */
function start(work) {
  activity.abort();
  const mine = (activity = new AbortController());
  active = true;
  problem = undefined;
  turn = turn.then(async () => {
    try {
      if (!mine.signal.aborted) await work(mine.signal);
    } catch (error) {
      if (!mine.signal.aborted) report(error);
    }
    if (mine === activity) active = false;
    render();
  });
  render();
}

function ask() {
  if (isStopping()) return activity.abort();
  const [question, preset] = [form.question.value.trim(), form.preset.value];
  const isDefault = form.temperature.value === form.temperature.defaultValue;
  const options = { preset, seed: form.seed.value.trim(), temperature: Number(form.temperature.value.replace(",", ".")) };
  return start(async (signal) => {
    check(form.question, question !== "", "empty");
    check(form.seed, /^\d+$/.test(options.seed) && BigInt(options.seed) < 2n ** 64n, "seed");
    const { temperature: t } = options;
    check(form.temperature, form.temperature.value.trim() !== "" && (t === 0 || (t >= 0.01 && t <= 1000)), "temperature");
    if (hasFailed) ready = load();
    await Promise.race([ready, aborted(signal)]);
    if (signal.aborted) return; // another question replaced this one while it waited for the model
    if (isDefault) options.temperature = Number(form.temperature.defaultValue); // the model's own, if it has only just been loaded
    await (talk ? converse(question, options, signal) : generate([{ role: "user", content: question }], options, signal));
  });
}

/** In a conversation the button stops what runs, as long as there is nothing else to ask. */
function isStopping() {
  return talk && active && !form.question.value.trim();
}

/** @param {AbortSignal} signal @returns {Promise<unknown>} settles when it is aborted */
function aborted(signal) {
  return new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

/** @param {HTMLInputElement} field @param {boolean} isRight @param {string} kind of the error if it is not */
function check(field, isRight, kind) {
  field.ariaInvalid = String(!isRight);
  if (isRight) return;
  field.focus();
  throw new ModelError(kind);
}

/**
 * Answer as the conversation's next turn. A question that gets no answer goes back to where it was typed.
 *
 * @param {string} question @param {import("./model.js").Options} options @param {AbortSignal} signal
 */
async function converse(question, options, signal) {
  const messages = talk.messages(question, form.system.value, form.history.checked);
  const asked = talk.begin(question);
  form.question.value = "";
  /** @type {"done" | "stopped" | "cut"} */
  let state = "cut";
  try {
    await generate(messages, options, signal);
    state = "done";
  } finally {
    const stays = talk.end(asked, player.run, signal.aborted ? "stopped" : state);
    if (!stays && !form.question.value) form.question.value = question;
  }
}

function clear() {
  talk.clear();
  form.question.focus();
}

/** @param {import("./model.js").Message[]} messages @param {import("./model.js").Options} options @param {AbortSignal} signal */
async function generate(messages, options, signal) {
  await player.follow(await model.ask(messages, options, signal), signal);
  const { steps } = player.run;
  if (!signal.aborted) say(texts(language).done(steps.at(-1).text, steps.length));
}

/** @param {any} error */
function report({ kind = "failed", message, facts = {} }) {
  problem = { kind, message, facts };
}

/** Announce a text to screen readers. @param {string} text */
function say(text) {
  get("said").textContent = text;
}

/** Set a text that screen readers announce when it changes, and leave it alone when it does not. @param {string} id @param {string} text */
function setText(id, text) {
  if (get(id).textContent !== text) get(id).textContent = text;
}

/** Show the state. */
function render() {
  const words = texts(language);
  renderProblem(words);
  renderLoading(words);
  if (talk) renderTalk(words);
  if (!loaded) return;
  setText("runs", loaded.runs(words));
  const isNano = loaded.name === NANO;
  const about = talk ? `${words.nano} ${words.nanoTalk}` : words.nano;
  get("model").textContent = isNano ? about : loaded.name;
  get("examples").hidden = !isNano || talk?.isEmpty === false;
  player.render(language, active, loaded, chosen());
}

/** @param {import("./strings.js").Texts} words */
function renderTalk(words) {
  talk.render(words);
  get("talk").hidden = talk.isEmpty;
  get("ask").textContent = isStopping() ? words.stop : words.ask;
}

/** @param {import("./strings.js").Texts} words */
function renderLoading(words) {
  const isLoading = !loaded && !hasFailed;
  get("loading").hidden = !isLoading;
  if (loaded) return;
  setText("runs", isLoading ? (active ? words.waiting : words.loading) : "");
  const { loaded: here, total } = progress;
  if (total) get("progress").value = here / total;
  if (total) {
    const sizes = [here, total].map((bytes) => megabytes(bytes, language));
    get("bytes").textContent = words.bytes(...sizes, percent(here / total, language, 0));
  }
}

/** @param {import("./strings.js").Texts} words */
function renderProblem(words) {
  const facts = { context: loaded?.context, ...problem?.facts };
  const lines = problem ? [words.errors[problem.kind](facts), problem.message] : [];
  const paragraphs = lines.filter(Boolean).map((text, i) => {
    return Object.assign(document.createElement("p"), { textContent: text, lang: i ? "en" : language });
  });
  const said = (/** @type {Element[]} */ elements) => elements.map(({ textContent }) => textContent).join("\n");
  if (said(paragraphs) !== said([...get("notice").children])) get("notice").replaceChildren(...paragraphs);
  renderLock(LOCKED.includes(problem?.kind));
}

/** @param {boolean} isLocked whether the server asks for a key, which takes the question's place */
function renderLock(isLocked) {
  if (get("unlock").hidden !== isLocked) return;
  get("unlock").hidden = !isLocked;
  form.hidden = get("stage").hidden = isLocked;
  (isLocked ? get("key") : form.question).focus();
}

/** @param {string} chosen `tr` or `en` */
function translate(chosen) {
  language = document.documentElement.lang = chosen;
  const words = /** @type {any} */ (texts(chosen));
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = words[element.dataset.text];
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = words[element.dataset.label];
  form.question.placeholder = words.placeholder;
  get("key").placeholder = words.key;
  for (const button of document.querySelectorAll(".languages button")) {
    button.ariaPressed = String(button.value === chosen);
  }
  render();
}

function listen() {
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    ask();
  });
  form.addEventListener("change", preview);
  get("ask").disabled = false; // sent before this, the form would reload the page
  get("play").addEventListener("click", () => (active ? activity.abort() : start((signal) => player.replay(signal))));
  get("step").addEventListener("input", () => say(player.seek(texts(language))));
  for (const button of document.querySelectorAll(".languages button")) {
    button.addEventListener("click", () => {
      translate(button.value);
      keep("localStorage", "language", language);
    });
  }
  for (const question of EXAMPLES) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: question });
    button.addEventListener("click", () => {
      form.question.value = question;
      ask();
    });
    const item = document.createElement("li");
    item.append(button);
    get("examples").append(item);
  }
}

/** What only a page has that a server answers. */
function listenToTalk() {
  get("talk").after(get("stage"), get("composer"));
  get("settings").open = false;
  form.question.value = "";
  form.question.addEventListener("input", () => renderTalk(texts(language)));
  get("new").addEventListener("click", () => start(async () => clear()));
  get("unlock").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    model.unlock(get("key").value.trim());
    get("key").value = "";
    problem = undefined;
    ready = load();
    render();
  });
}

if (talk) listenToTalk();
translate(language);
listen();
