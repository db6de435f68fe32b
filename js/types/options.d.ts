/** The options of one generation. */
export interface Config {
  /** Denoising steps, shared among the blocks by ceiling. */
  steps: number;
  /** Masks that are put after the prompt. */
  max_new_tokens: number;
  /** Positions that are denoised together, from left to right. */
  block_length: number;
  /** Divides the logits before a token is drawn; 0 takes the best token. */
  temperature: number;
  /** Divides the positive and multiplies the negative logits of tokens that the canvas holds; 1 is none. */
  repetition_penalty: number;
  /** Which predictions are committed first. */
  remasking: "low_confidence" | "random";
  stochastic_transfer: boolean;
  cfg_scale: number;
  cfg_keep_tokens: number[];
  schedule: "linear" | "cosine";
  /** Of all random choices, 0 to 2^64 - 1. */
  seed: bigint;
  /** Strings that end the answer. */
  stop: string[];
  /** Stop as soon as the shown answer can change no more. The text is the same. */
  early_end: boolean;
  suppress_tokens: number[];
  /** Ids that the repetition penalty spares. */
  penalty_exempt: number[];
  /** What a step computes: every token, or after a block's first step only those that can have changed. */
  cache: "none" | "block";
  /** Of a cache: compute every token again after so many passes; 0 is never. */
  refresh_steps: number;
  /** Of a cache: compute every token again after a commit of more nats; 0 is never. */
  refresh_entropy: number;
  /** How many tokens a step commits: what the schedule says, or more by a rule. */
  commit: "schedule" | "factor" | "entropy";
  commit_factor: number;
  commit_entropy: number;
}

export type PresetName = "short" | "long" | "fast";
