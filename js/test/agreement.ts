/** The declarations in `types/` and the code in `src/` export the same names, and the code fits the declarations. */

import type * as nodeCode from "../src/node.js";
import type * as webCode from "../src/web.js";
import type * as nodeTypes from "../types/node.js";
import type * as webTypes from "../types/web.js";

/** A module's exports, with an instance for each class. */
type Exports<M> = { [K in keyof M]: M[K] extends new (...given: any) => infer Instance ? Instance : M[K] };
type Same<A, B> = [A, B] extends [B, A] ? true : false;

declare const node: Exports<typeof nodeCode>;
declare const web: Exports<typeof webCode>;
export const nodeFits: Exports<typeof nodeTypes> = node;
export const webFits: Exports<typeof webTypes> = web;
export const load: typeof nodeTypes.Diffutron.load = (null as unknown as typeof nodeCode.Diffutron).load as any as (
  ...given: Parameters<typeof nodeCode.Diffutron.load>
) => Promise<any>;
export const names: [Same<keyof typeof nodeCode, keyof typeof nodeTypes>, Same<keyof typeof webCode, keyof typeof webTypes>] = [
  true,
  true,
];
