/** Generated from diffutron_ort/config.py by `python js/generate.py`: the options of one generation. */

export interface Config {
  /** Denoising steps, shared among the blocks; steps with nothing to commit are skipped. */
  steps: number;
  /** Masks appended to the prompt: the most tokens an answer can have. */
  max_new_tokens: number;
  /** Positions denoised together; blocks are finished from left to right. */
  block_length: number;
  /** Divides the logits before a token is drawn; 0 takes the best token. */
  temperature: number;
  /** Divides the positive and multiplies the negative logits of tokens on the canvas; 1 is none. */
  repetition_penalty: number;
  /** Which predictions are committed first: the most confident, or random ones. */
  remasking: "low_confidence" | "random";
  /** Draw how many masks a step commits, instead of rounding the expected number. */
  stochastic_transfer: boolean;
  /** Scale of classifier-free guidance; 0 is none, anything else costs a second pass per step. */
  cfg_scale: number;
  /** Token ids that the unconditional pass of the guidance still sees. */
  cfg_keep_tokens: number[];
  /** How fast masks are committed over the steps. */
  schedule: "linear" | "cosine";
  /** Seed of all random choices; prompt i of a list uses seed + i. */
  seed: bigint;
  /** Strings that end the answer; it is truncated at the start of whichever completes first. */
  stop: string[];
  /** Stop as soon as the answer that is shown can no longer change; the text is the same. */
  early_end: boolean;
  /** Token ids that are never chosen. */
  suppress_tokens: number[];
  /** Token ids exempt from the repetition penalty, besides <mask> and <eos>. */
  penalty_exempt: number[];
  /** None: every pass computes every token (exact); block: after the first step of a block, passes compute only tokens that can have changed since (approximate). */
  cache: "none" | "block";
  /** With a cache, compute every token again once the last full pass is this many steps old; 0 never does so within a block. */
  refresh_steps: number;
  /** With a cache, compute every token again when a token was just committed with a larger entropy than this, in nats; 0 is never. */
  refresh_entropy: number;
  /** How many tokens a step commits: as many as the schedule says, or more where the rule factor or entropy finds the predictions certain enough. */
  commit: "schedule" | "factor" | "entropy";
  /** For the rule factor: commit the n best predictions while n + 1 times the probability that the n-th is wrong is below this. */
  commit_factor: number;
  /** For the rule entropy, in nats: commit the n best predictions while the sum of their entropies without the largest is at most this. */
  commit_entropy: number;
}

export type PresetName = "short" | "long" | "fast";
