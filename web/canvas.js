/** The canvas on the page: a button for each place, one of them in the tab order, and a note about one token. */

import { percent, spoken } from "./strings.js";

const BREAKS = { "\n": "⏎", "\t": "⇥" };
const COLUMN_KEYS = { ArrowUp: -1, ArrowDown: 1 };
const ROW_KEYS = { ArrowLeft: -1, ArrowRight: 1 };

/** @typedef {import("./frames.js").Place} Place */

export class CanvasView {
  #element;
  #note = Object.assign(document.createElement("div"), { id: "note", hidden: true });
  /** @type {HTMLButtonElement[]} */
  #cells = [];
  /** @type {Place[]} */
  #places = [];
  /** @type {number | undefined} the place that the note is about */
  #told;

  /** @param {HTMLElement} element */
  constructor(element) {
    this.#element = element;
    this.#note.ariaHidden = "true"; // the cells' labels say the same
    const cell = (/** @type {Event} */ { target }) => this.#cells.indexOf(target.closest?.("button"));
    const leaves = (/** @type {any} */ { relatedTarget }) => !element.contains(relatedTarget);
    element.addEventListener("pointerover", (event) => cell(event) >= 0 && this.#tell(cell(event)));
    element.addEventListener("pointerleave", () => this.#tell(undefined));
    element.addEventListener("focusin", (event) => this.#enter(cell(event)));
    element.addEventListener("focusout", (event) => leaves(event) && this.#tell(undefined));
    element.addEventListener("keydown", (event) => this.#move(event));
  }

  /**
   * @param {number} length places in all @param {number} width places in a block
   */
  reset(length, width) {
    this.#cells = Array.from({ length }, () => document.createElement("button"));
    const blocks = Array.from({ length: Math.ceil(length / width) }, (_, block) => {
      const element = document.createElement("div");
      element.className = "block";
      element.append(...this.#cells.slice(block * width, (block + 1) * width));
      return element;
    });
    this.#cells.forEach((cell, i) => Object.assign(cell, { type: "button", tabIndex: i ? -1 : 0 }));
    this.#element.replaceChildren(...blocks, this.#note);
    this.#tell(undefined);
  }

  /** @param {Place[]} places @param {string} language @param {import("./strings.js").Texts} texts */
  show(places, language, texts) {
    this.#places = places;
    this.language = language;
    this.texts = texts;
    places.forEach((place, i) => {
      const cell = this.#cells[i];
      cell.dataset.state = place.state;
      cell.textContent = glyphs(place);
      cell.toggleAttribute("data-long", cell.textContent.length > 7);
      cell.ariaLabel = texts.place(i + 1, this.#words(place));
    });
    this.#tell(this.#told);
  }

  /** @param {Place} place */
  #words({ piece, state, confidence, step }) {
    if (piece === undefined) return this.texts[state];
    return this.texts.token(spoken(piece, this.texts), this.texts[state], percent(confidence, this.language), step);
  }

  /** @param {number} i the place that has the focus */
  #enter(i) {
    this.#cells.forEach((cell, j) => (cell.tabIndex = i === j ? 0 : -1));
    this.#tell(i);
  }

  /** @param {KeyboardEvent} event */
  #move(event) {
    const { key } = event;
    if (key === "Escape") return this.#tell(undefined);
    const from = this.#cells.indexOf(document.activeElement);
    const columns = getComputedStyle(this.#element.firstElementChild).gridTemplateColumns.split(" ").length;
    const edges = { Home: 0, End: this.#cells.length - 1 };
    const to = edges[key] ?? from + (ROW_KEYS[key] ?? columns * COLUMN_KEYS[key]);
    if (from < 0 || !this.#cells[to]) return undefined;
    event.preventDefault();
    return this.#cells[to].focus();
  }

  /** @param {number | undefined} i the place that the note is to be about; none hides it */
  #tell(i) {
    this.#told = i;
    const place = this.#places[i];
    this.#note.hidden = place?.piece === undefined;
    if (this.#note.hidden) return;
    const share = percent(place.confidence, this.language);
    this.#note.replaceChildren(
      element("strong", marked(place.piece), { lang: "tr" }),
      element("meter", "", { value: place.confidence }),
      element("span", `${this.texts.confidence(share)}, ${this.texts.at(place.step)}`),
    );
    this.#put(this.#cells[i]);
  }

  /** Put the note below a cell, or above it where the window ends, within the canvas's width. @param {HTMLElement} cell */
  #put(cell) {
    const [canvas, box, note] = [this.#element, cell, this.#note].map((part) => part.getBoundingClientRect());
    const middle = box.left - canvas.left + box.width / 2 - note.width / 2;
    const below = box.bottom + note.height + 8 < innerHeight;
    this.#note.style.left = `${Math.max(0, Math.min(middle, canvas.width - note.width))}px`;
    this.#note.style.top = `${(below ? box.bottom + 4 : box.top - note.height - 4) - canvas.top}px`;
  }
}

/** @param {Place} place */
function glyphs({ piece = "", state }) {
  if (state === "mask" || state === "beyond") return "";
  return /^<(pad|eos)>$/.test(piece) ? "·" : marked(piece.replace(/^▁/, ""));
}

/** @param {string} piece */
function marked(piece) {
  return piece.replace(/[\n\t]/g, (letter) => BREAKS[letter]);
}

/** @param {string} name @param {string} text @param {object} [more] */
function element(name, text, more) {
  return Object.assign(document.createElement(name), { textContent: text, ...more });
}
