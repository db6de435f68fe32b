/** Generated from diffutron_ort/text/tokenizer_guard.py by `python js/generate.py`: the steps that a tokenizer may have. */

export const MOST_STEPS = 16;
export const MOST_GROWTH = 64;

export const NESTED = {
  normalizer: "normalizers",
  pre_tokenizer: "pretokenizers",
  decoder: "decoders",
};

export const GROWTH = {
  NFC: 3,
  NFD: 4,
  NFKC: 18,
  NFKD: 18,
  Lowercase: 3,
  ByteLevel: 4,
};

export const SHRINKAGE = {
  NFC: 4,
  NFKC: 4,
  Strip: Infinity,
  StripAccents: Infinity,
  Whitespace: Infinity,
  WhitespaceSplit: Infinity,
};

export const ALLOWED = {
  normalizer: ["Replace", "Prepend", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "ByteLevel", "Strip", "StripAccents"],
  pre_tokenizer: ["Metaspace", "Split", "ByteLevel", "Digits", "Punctuation", "UnicodeScripts", "Whitespace", "WhitespaceSplit"],
  decoder: ["Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "ByteLevel"],
};
