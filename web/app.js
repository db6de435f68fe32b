/** The page: a question in, the steps of its answer out, and a way back through them. */

import { CanvasView } from "./canvas.js";
import { places, summary } from "./frames.js";
import { Model, ModelError } from "./model.js";
import { megabytes, percent, spoken, texts } from "./strings.js";

const NANO = "../models/nano/";
const EXAMPLES = [
  "Ters sırala: kitap, deniz, okul, elma",
  "Hangi ülkenin başkenti Viyana?",
  "Sokak kelimesine -de eki getir.",
];
const PACE = 110; // least milliseconds that a step is shown: a small model would be done before anybody has seen a step
const ICONS = { play: "M4 2v12l9-6z", stop: "M3 3h10v10H3z" };

/** @param {string} id @returns {any} */
const get = (id) => document.getElementById(id);
/** @type {any} */
const form = get("form");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const model = new Model(({ loaded, total }) => {
  progress = { loaded, total };
  render();
});
const view = new CanvasView(get("canvas"));

let language = remembered() ?? (/^tr\b/i.test(navigator.language) ? "tr" : "en");
/** @type {import("../js/types/web.js").Progress} in bytes */
let progress = { loaded: 0, total: 0 };
/** @type {import("./model.js").Loaded | undefined} */
let loaded;
/** @type {{ steps: import("./frames.js").Step[], config: import("../js/types/index.js").Config } | undefined} */
let run;
let hasFailed = false; // to load
let count = 0; // steps that the canvas shows
let following = true; // whether it shows each new one
/** @type {{ kind: string, message: string } | undefined} */
let problem;
let activity = new AbortController(); // of the generation or the replay
let active = false;
let turn = Promise.resolve();
const ready = load();

async function load() {
  const asked = new URLSearchParams(location.search);
  const folder = new URL(`${asked.get("model") ?? NANO}/`.replace(/\/+$/, "/"), location.href);
  if (folder.origin !== location.origin) throw new ModelError("elsewhere", folder.href);
  const [variant, device, threads] = ["variant", "device", "threads"].map((name) => asked.get(name) ?? undefined);
  loaded = await model.load({ folder: folder.href, variant, device, threads: Number(threads ?? 0) });
  form.temperature.defaultValue = loaded.presets.short.temperature; // which leaves alone what somebody has typed
  preview();
  render();
}

/** Show the canvas of the chosen preset as long as nothing has been asked. */
function preview() {
  if (run || !loaded) return;
  const { max_new_tokens: length, block_length: width } = loaded.presets[form.preset.value];
  view.reset(length, width);
  render();
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
      report(error);
    }
    if (mine === activity) active = false;
    render();
  });
  render();
}

function ask() {
  const [question, preset] = [form.question.value.trim(), form.preset.value];
  const isDefault = form.temperature.value === form.temperature.defaultValue;
  const options = { seed: form.seed.value.trim(), temperature: Number(form.temperature.value.replace(",", ".")) };
  start(async (signal) => {
    check(form.question, question !== "", "empty");
    check(form.seed, /^\d+$/.test(options.seed) && BigInt(options.seed) < 2n ** 64n, "seed");
    const { temperature: t } = options;
    check(form.temperature, form.temperature.value.trim() !== "" && (t === 0 || (t >= 0.01 && t <= 1000)), "temperature");
    await Promise.race([ready, aborted(signal)]);
    if (signal.aborted) return; // another question replaced this one while it waited for the model
    if (isDefault) options.temperature = Number(form.temperature.defaultValue); // the model's own, if it has only just been loaded
    await generate(signal, await model.begin(question, preset, options));
  });
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

/** @param {AbortSignal} signal @param {import("../js/types/index.js").Config} config */
async function generate(signal, config) {
  run = { steps: [], config };
  following = true;
  view.reset(config.max_new_tokens, config.block_length);
  show(0);
  for await (const step of model.steps()) {
    run.steps.push(step);
    show(following ? run.steps.length : count);
    await pause(PACE - step.seconds * 1000, signal);
    if (signal.aborted) break;
  }
  if (!signal.aborted) say(texts(language).done(run.steps.at(-1).text, run.steps.length));
}

/** @param {AbortSignal} signal */
async function replay(signal) {
  for (let next = 0; next <= run.steps.length && !signal.aborted; next++) {
    if (next && count !== next - 1) return; // somebody has moved the slider
    show(next);
    await pause(PACE, signal);
  }
}

/** @param {number} milliseconds @param {AbortSignal} signal ends it at once */
function pause(milliseconds, signal) {
  if (calm.matches || signal.aborted) return undefined;
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", resolve, { once: true });
  });
}

/** @param {number} steps how many the canvas shows */
function show(steps) {
  count = steps;
  render();
}

/** @param {any} error */
function report({ kind = "failed", message }) {
  problem = { kind, message };
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
  if (!loaded) return;
  const { bundle, device, threads } = loaded;
  const { steps, config } = run ?? { steps: [], config: loaded.presets[form.preset.value] };
  const { name } = bundle.source;
  setText("runs", words[device](threads));
  get("model").textContent = name === "nano" ? words.nano : name;
  get("examples").hidden = name !== "nano";
  get("answer").textContent = steps[count - 1]?.text ?? "";
  view.show(places(steps, count, config.max_new_tokens, bundle), language, words);
  get("canvas").ariaBusy = String(active);
  get("summary").hidden = get("play").disabled = get("step").disabled = !run;
  renderSteps(words, steps);
  if (run) renderSummary(words, steps, config);
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

/** @param {import("./strings.js").Texts} words @param {import("./frames.js").Step[]} steps */
function renderSteps(words, steps) {
  const where = steps.length ? words.stepOf(count, steps.length) : "";
  Object.assign(get("step"), { max: steps.length, value: count, ariaValueText: where });
  get("step-number").textContent = where;
  get("play").ariaLabel = get("play").title = active ? words.stop : words.play;
  get("play").querySelector("path").setAttribute("d", active ? ICONS.stop : ICONS.play);
}

/**
 * @param {import("./strings.js").Texts} words @param {import("./frames.js").Step[]} steps
 * @param {import("../js/types/index.js").Config} config
 */
function renderSummary(words, steps, config) {
  const { taken, saved, speed } = summary(steps, config);
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  get("saved-label").textContent = config.commit === "schedule" ? words.savedByEnd : words.savedByBoth;
  get("taken").textContent = number.format(taken);
  get("saved").textContent = taken && !active ? percent(saved, language, 0) : "…";
  const span = places(steps, steps.length, config.max_new_tokens, loaded.bundle);
  get("spared").textContent = taken && !active ? number.format(span.filter(({ state }) => state === "beyond").length) : "…";
  get("speed").textContent = taken ? number.format(speed) : "…";
}

/** @param {import("./strings.js").Texts} words */
function renderProblem(words) {
  const lines = problem ? [words.errors[problem.kind](loaded?.bundle.context_length), problem.message] : [];
  const paragraphs = lines.filter(Boolean).map((text, i) => {
    return Object.assign(document.createElement("p"), { textContent: text, lang: i ? "en" : language });
  });
  const said = (/** @type {Element[]} */ elements) => elements.map(({ textContent }) => textContent).join("\n");
  if (said(paragraphs) !== said([...get("notice").children])) get("notice").replaceChildren(...paragraphs);
}

/** @param {string} chosen `tr` or `en` */
function translate(chosen) {
  language = document.documentElement.lang = chosen;
  const words = /** @type {any} */ (texts(chosen));
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = words[element.dataset.text];
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = words[element.dataset.label];
  for (const button of document.querySelectorAll(".languages button")) {
    button.ariaPressed = String(button.value === chosen);
  }
  render();
}

/** @returns {string | undefined} the language that was chosen last, where the browser keeps it */
function remembered() {
  try {
    return ["tr", "en"].find((one) => one === localStorage.getItem("language"));
  } catch {
    return undefined;
  }
}

function listen() {
  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    ask();
  });
  form.addEventListener("change", preview);
  get("ask").disabled = false; // sent before this, the form would reload the page
  get("play").addEventListener("click", () => (active ? activity.abort() : start(replay)));
  get("step").addEventListener("input", () => {
    const value = Number(get("step").value);
    following = value === run.steps.length;
    show(value);
    const words = texts(language);
    const pieces = run.steps[value - 1]?.pieces.map((piece) => spoken(piece, words));
    say(pieces ? words.newOnes(pieces.join(", ")) : words.allMasked);
  });
  for (const button of document.querySelectorAll(".languages button")) {
    button.addEventListener("click", () => {
      translate(button.value);
      try {
        localStorage.setItem("language", language);
      } catch {
        // the browser keeps nothing, so the next visit begins in its own language
      }
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

translate(language);
listen();
ready.catch((error) => {
  hasFailed = true;
  report(error);
  render();
});
