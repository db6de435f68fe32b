/** The conversation: its turns on the page, what the model is told of them, and where they are kept. */

import { keep, recall } from "./kept.js";

const NAME = "talk"; // in the browser's storage

/**
 * @typedef {object} Turn
 * @property {string} question
 * @property {string} answer
 * @property {"done" | "full" | "stopped" | "cut"} [state] how it ended; the model is told of no answer that was not finished
 * @property {import("./player.js").Run} [run] its steps, until the page is left
 */

export class Talk {
  /** @type {Turn[]} */
  #turns = [];
  /** @type {Turn | undefined} the one whose steps are on show */
  #shown;
  /** @type {Map<Turn, HTMLElement>} */
  #items = new Map();
  #list;
  #stage;
  #show;

  /**
   * @param {HTMLElement} list of the turns @param {HTMLElement} stage where steps are shown, which moves to their turn
   * @param {(run: import("./player.js").Run | undefined) => void} show is called with the steps to put there
   */
  constructor(list, stage, show) {
    [this.#list, this.#stage, this.#show] = [list, stage, show];
    for (const { question, answer, state } of kept()) this.#append({ question, answer, state });
  }

  get isEmpty() {
    return !this.#turns.length;
  }

  /** Add a question, whose answer is going to be on show. @param {string} question @returns {Turn} */
  begin(question) {
    const turn = { question, answer: "" };
    this.#append(turn);
    this.#open(turn);
    this.#items.get(turn).scrollIntoView({ block: "start" });
    return turn;
  }

  /**
   * End the last turn; it goes if no step was taken.
   *
   * @param {Turn} turn @param {import("./player.js").Run | undefined} run
   * @param {"done" | "stopped" | "cut"} state
   * @returns {boolean} whether it stays
   */
  end(turn, run, state) {
    if (run?.steps.length) {
      Object.assign(turn, { run, answer: run.steps.at(-1).text, state: run.ending?.isFull ? "full" : state });
    } else this.#remove(turn);
    this.#keep();
    return Boolean(turn.run);
  }

  /** Begin a new conversation, and forget this one. */
  clear() {
    this.#putAway();
    for (const item of this.#items.values()) item.remove();
    [this.#turns, this.#shown, this.#items] = [[], undefined, new Map()];
    this.#show(undefined);
    keep("localStorage", NAME, null);
  }

  /**
   * @param {string} question the next one @param {string} system what the model is told before all; blank is nothing
   * @param {boolean} hasTurns whether it is told of those before
   * @returns {import("./model.js").Message[]}
   */
  messages(question, system, hasTurns) {
    const told = hasTurns ? this.#turns.filter(({ state }) => state === "done" || state === "full") : [];
    /** @type {import("./model.js").Message[]} */
    const messages = told.flatMap(({ question, answer }) => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ]);
    messages.push({ role: "user", content: question });
    return system.trim() ? [{ role: "system", content: system.trim() }, ...messages] : messages;
  }

  /** @param {import("./strings.js").Texts} words */
  render(words) {
    for (const [turn, item] of this.#items) {
      const [, answer, steps, aside] = /** @type {any} */ (item.children);
      answer.textContent = turn.answer;
      answer.hidden = turn === this.#shown;
      steps.textContent = words.showSteps;
      steps.hidden = turn === this.#shown || !turn.run;
      aside.textContent = words.states[turn.state] ?? "";
      aside.hidden = !aside.textContent;
    }
  }

  /** @param {Turn} turn */
  #append(turn) {
    const item = document.createElement("li");
    const question = Object.assign(document.createElement("p"), { className: "question", textContent: turn.question });
    const answer = Object.assign(document.createElement("p"), { className: "answer" });
    const steps = Object.assign(document.createElement("button"), { className: "link", type: "button" });
    const aside = Object.assign(document.createElement("p"), { className: "aside" });
    question.lang = answer.lang = "tr";
    item.append(question, answer, steps, aside);
    steps.addEventListener("click", () => {
      this.#open(turn);
      /** @type {any} */ (this.#stage.querySelector("#step")).focus(); // the button, which had the focus, is gone
    });
    this.#turns.push(turn);
    this.#items.set(turn, item);
    this.#list.append(item);
  }

  /** Put the stage into a turn, and its steps on it. @param {Turn} turn */
  #open(turn) {
    this.#shown = turn;
    this.#items.get(turn).append(this.#stage);
    this.#show(turn.run);
  }

  /** @param {Turn} turn the last one */
  #remove(turn) {
    this.#putAway();
    this.#items.get(turn).remove();
    this.#items.delete(turn);
    this.#turns.pop();
    this.#shown = undefined;
    const before = this.#turns.at(-1);
    if (before?.run) this.#open(before);
    else this.#show(undefined);
  }

  /** Put the stage behind the conversation, where it is before the first question. */
  #putAway() {
    this.#list.closest("section").after(this.#stage);
  }

  #keep() {
    const turns = this.#turns.map(({ question, answer, state }) => ({ question, answer, state }));
    keep("localStorage", NAME, JSON.stringify(turns));
  }
}

/** @returns {Turn[]} those of the last visit */
function kept() {
  try {
    const turns = JSON.parse(recall("localStorage", NAME) ?? "[]");
    return turns.filter((/** @type {any} */ turn) => [turn.question, turn.answer].every((text) => typeof text === "string"));
  } catch {
    return []; // something else has written there
  }
}
