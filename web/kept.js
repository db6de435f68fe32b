/** What the browser keeps, where it keeps anything: `localStorage` for the next visit, `sessionStorage` for this one. */

/** @typedef {"localStorage" | "sessionStorage"} Store */

/** @param {Store} store @param {string} name @returns {string | null} */
export function recall(store, name) {
  try {
    return globalThis[store].getItem(name);
  } catch {
    return null; // it keeps nothing
  }
}

/** @param {Store} store @param {string} name @param {string | null} value null forgets it */
export function keep(store, name, value) {
  try {
    if (value === null) globalThis[store].removeItem(name);
    else globalThis[store].setItem(name, value);
  } catch {
    // it keeps nothing, so the next visit begins anew
  }
}
