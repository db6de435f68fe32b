/** Generated from diffutron_ort/runtime/contract.py by `python js/generate.py`: by name, the type and axes of a graph's inputs and outputs. */

export const DENOISER_INPUTS = {
  input_ids: { dtype: "int64", axes: ["batch", "seq"] },
  position_ids: { dtype: "int64", axes: ["batch", "seq"] },
  past_position_ids: { dtype: "int64", axes: ["batch", "past"] },
  rows: { dtype: "int64", axes: ["n"] },
  seen_ids: { dtype: "int64", axes: ["batch", "u"] },
  suppress_ids: { dtype: "int64", axes: ["batch", "s"] },
  repetition_penalty: { dtype: "float32", axes: ["batch"] },
  temperature: { dtype: "float32", axes: ["batch"] },
  target_ids: { dtype: "int64", axes: ["n", "t"] },
  want_logits: { dtype: "bool", axes: [] },
  want_entropy: { dtype: "bool", axes: [] },
  past_key: { dtype: "float32", axes: ["batch", "past", "hidden"], perLayer: true },
  past_value: { dtype: "float32", axes: ["batch", "past", "hidden"], perLayer: true },
};

export const DENOISER_OUTPUTS = {
  top_ids: { dtype: "int64", axes: ["n", "k"] },
  top_logits: { dtype: "float32", axes: ["n", "k"] },
  rest: { dtype: "float32", axes: ["n"] },
  rest_tempered: { dtype: "float32", axes: ["n"] },
  entropy: { dtype: "float32", axes: ["n"] },
  target_logits: { dtype: "float32", axes: ["n", "t"] },
  logits: { dtype: "float32", axes: ["m", "columns"] },
  key: { dtype: "float32", axes: ["batch", "seq", "hidden"], perLayer: true },
  value: { dtype: "float32", axes: ["batch", "seq", "hidden"], perLayer: true },
};

export const GENERATION_INPUTS = {
  prompt_ids: { dtype: "int64", axes: [1, "length"] },
  max_new_tokens: { dtype: "int64", axes: [] },
  steps: { dtype: "int64", axes: [] },
  block_length: { dtype: "int64", axes: [] },
  temperature: { dtype: "float32", axes: [] },
  repetition_penalty: { dtype: "float32", axes: [] },
  seed: { dtype: "int64", axes: [] },
  stop_ids: { dtype: "int64", axes: ["stops", "longest"] },
};

export const GENERATION_OUTPUTS = {
  ids: { dtype: "int64", axes: [1, "total"] },
  answer_length: { dtype: "int64", axes: [] },
  steps_taken: { dtype: "int64", axes: [] },
};

/** The denoiser's outputs that every pass fetches. */
export const REDUCTIONS = ["top_ids", "top_logits", "rest", "rest_tempered", "entropy"];
