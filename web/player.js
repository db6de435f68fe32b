/** The answer on show: its canvas, a way back through its steps, and its figures. */

import { CanvasView } from "./canvas.js";
import { places, summary } from "./frames.js";
import { percent, spoken, texts } from "./strings.js";

const PACE = 110; // least milliseconds that a step is shown: a small model would be done before anybody has seen a step
const ICONS = { play: "M4 2v12l9-6z", stop: "M3 3h10v10H3z" };

/** @param {string} id @returns {any} */
const get = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * @typedef {object} Run one answer, as far as it has come
 * @property {import("./model.js").Config} config
 * @property {import("./frames.js").Step[]} steps
 * @property {import("./model.js").Ending} [ending]
 */

export class Player {
  /** @type {Run | undefined} */
  run;
  #view = new CanvasView(get("canvas"));
  #count = 0; // steps that the canvas shows
  #isFollowing = true; // whether it shows each new one
  #changed;

  /** @param {() => void} changed is called when there is something else to show */
  constructor(changed) {
    this.#changed = changed;
  }

  /** Show the canvas that there will be before its first step. @param {import("./model.js").Config} config */
  preview(config) {
    this.run = undefined;
    this.#view.reset(config.max_new_tokens, config.block_length);
    this.#go(0);
  }

  /** Show an answer with all its steps. @param {Run} run */
  open(run) {
    this.run = run;
    this.#isFollowing = true;
    this.#view.reset(run.config.max_new_tokens, run.config.block_length);
    this.#go(run.steps.length);
  }

  /** Show an answer as it comes. @param {import("./model.js").Answer} answer @param {AbortSignal} signal stops it */
  async follow(answer, signal) {
    const run = { config: answer.config, steps: [] };
    this.open(run);
    let next = 0; // when the next step may be shown
    for await (const step of answer.steps) {
      await pause(next - performance.now(), signal);
      if (signal.aborted) break;
      run.steps.push(step);
      this.#go(this.#isFollowing ? run.steps.length : this.#count);
      next = performance.now() + PACE;
    }
    if (!signal.aborted) run.ending = answer.ending;
  }

  /** Show the steps again, one by one, until somebody moves the slider. @param {AbortSignal} signal */
  async replay(signal) {
    for (let next = 0; next <= this.run.steps.length && !signal.aborted; next++) {
      if (next && this.#count !== next - 1) return;
      this.#go(next);
      await pause(PACE, signal);
    }
  }

  /**
   * Show what the slider says.
   *
   * @param {import("./strings.js").Texts} words @returns {string} what is new there
   */
  seek(words) {
    const value = Number(get("step").value);
    this.#isFollowing = value === this.run.steps.length;
    this.#go(value);
    const pieces = this.run.steps[value - 1]?.pieces.map((piece) => spoken(piece, words));
    return pieces ? words.newOnes(pieces.join(", ")) : words.allMasked;
  }

  /** @param {number} count of steps to show */
  #go(count) {
    this.#count = count;
    this.#changed();
  }

  /**
   * @param {string} language @param {boolean} active whether something runs
   * @param {import("./model.js").Loaded} model
   * @param {import("./model.js").Config} config of the canvas where there is no answer
   */
  render(language, active, model, config) {
    const words = texts(language);
    const { steps, config: shown } = this.run ?? { steps: [], config };
    get("answer").textContent = steps[this.#count - 1]?.text ?? "";
    this.#view.show(places(steps, this.#count, shown.max_new_tokens), language, words);
    get("canvas").ariaBusy = String(active);
    get("summary").hidden = get("play").disabled = get("step").disabled = !this.run;
    this.#renderSteps(words, active);
    if (this.run) renderSummary(this.run, language, active, model);
  }

  /** @param {import("./strings.js").Texts} words @param {boolean} active */
  #renderSteps(words, active) {
    const most = this.run?.steps.length ?? 0;
    const where = most ? words.stepOf(this.#count, most) : "";
    Object.assign(get("step"), { max: most, value: this.#count, ariaValueText: where });
    get("step-number").textContent = where;
    get("play").ariaLabel = get("play").title = active ? words.stop : words.play;
    get("play").querySelector("path").setAttribute("d", active ? ICONS.stop : ICONS.play);
  }
}

/** @param {Run} run @param {string} language @param {boolean} active @param {import("./model.js").Loaded} model */
function renderSummary({ steps, config, ending }, language, active, { context }) {
  const words = texts(language);
  const { taken, saved, speed } = summary(steps, config);
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  const span = places(steps, steps.length, config.max_new_tokens);
  const isKnown = taken && !active;
  get("saved-label").textContent = config.commit === "schedule" ? words.savedByEnd : words.savedByBoth;
  get("taken").textContent = number.format(taken);
  get("saved").textContent = isKnown ? percent(saved, language, 0) : "…";
  get("spared").textContent = isKnown ? number.format(span.filter(({ state }) => state === "beyond").length) : "…";
  get("speed").textContent = taken ? number.format(speed) : "…";
  get("prompt-tokens").textContent = ending ? words.ofContext(ending.tokens, context) : "…";
}

/** @param {number} milliseconds @param {AbortSignal} signal ends it at once */
function pause(milliseconds, signal) {
  if (milliseconds <= 0 || calm.matches || signal.aborted) return undefined;
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", resolve, { once: true });
  });
}
