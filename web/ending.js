/** Where an answer ends, by the sampler's own rule. */

import { Ends } from "../js/src/stopping.js";

/**
 * Return where the answer is known to end: after the stop sequence that ends it, or at a `<pad>` or `<eos>`; null as long
 * as there is no end without a mask before it.
 *
 * @param {readonly number[]} ids of the generated span @param {import("../js/types/index.js").Bundle} bundle
 * @returns {number | null}
 */
export function endOf(ids, { special_ids: special, stop_sequences: stops }) {
  const ends = new Ends(special, stops.map((stop) => stop.ids));
  const end = ends.find(ends.committed(ids));
  if (!end) return null;
  return [special.pad, special.eos].includes(ids[end.begin]) ? end.begin : end.complete;
}
