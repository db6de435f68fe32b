/** What the package exports in Node. */

import type { Host } from "./index.js";

export * from "./index.js";

/**
 * Return the host of a bundle on disk.
 *
 * @param folder the bundle's
 * @param options.threads within an operator; all that this process may use unless given
 * @throws {BundleError} there is no bundle in the folder
 */
export declare function nodeHost(folder: string, options?: { threads?: number }): Host;
