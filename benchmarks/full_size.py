"""Write a random checkpoint of exactly DiffutronLM's size, to measure size and speed without the real weights.

    python benchmarks/full_size.py OUT [--seed S]

The shape is mmBERT-base's (22 layers of 768, 256,000 pieces, 307,786,240 parameters in 137 tensors, bfloat16), and the
tokenizer has its pipeline over made-up pieces. Nothing that comes out of the model means anything.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
from ml_dtypes import bfloat16
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

VOCAB_SIZE, HIDDEN, INTERMEDIATE, LAYERS, HEADS = 256_000, 768, 1152, 22, 12
PARAMETERS = 307_786_240
THETA = 160_000.0

CONFIG = {
    "architectures": ["ModernBertForMaskedLM"],
    "attention_bias": False,
    "bos_token_id": 2,
    "classifier_activation": "gelu",
    "classifier_pooling": "mean",
    "cls_token_id": 1,
    "decoder_bias": True,
    "eos_token_id": 1,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": THETA,
    "hidden_activation": "gelu",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "layer_norm_eps": 1e-05,
    "local_attention": 128,
    "local_rope_theta": THETA,
    "mask_token_id": 4,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "pad_token_id": 0,
    "position_embedding_type": "sans_pos",
    "sep_token_id": 1,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCAB_SIZE,
}
TOKENIZER_CONFIG = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "mask_token": "<mask>",
    "model_max_length": 8192,
    "pad_token": "<pad>",
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
}
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<2mass>", "[@BOS@]", *(f"<unused{i}>" for i in range(99))]
TURNS = ["<start_of_turn>", "<end_of_turn>"]  # ids 106 and 107, as in Gemma 2
RUNS = [character * n for character in "\n\t" for n in range(1, 32)]
LETTERS = "▁abcçdefgğhıijklmnoöprsştuüvyzqwxABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZQWXâîû0123456789.,:;?!'\"()-+=*/[]_%&"
SHORT = 2000
"""How many pieces are joined with each other; all others are their pairs."""

CHUNK = 2**22
"""The most numbers that are made at once."""


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and shape of each tensor."""
    yield "model.embeddings.tok_embeddings.weight", (VOCAB_SIZE, HIDDEN)
    yield "model.embeddings.norm.weight", (HIDDEN,)
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        if i:
            yield f"{layer}.attn_norm.weight", (HIDDEN,)
        yield f"{layer}.attn.Wqkv.weight", (3 * HIDDEN, HIDDEN)
        yield f"{layer}.attn.Wo.weight", (HIDDEN, HIDDEN)
        yield f"{layer}.mlp_norm.weight", (HIDDEN,)
        yield f"{layer}.mlp.Wi.weight", (2 * INTERMEDIATE, HIDDEN)
        yield f"{layer}.mlp.Wo.weight", (HIDDEN, INTERMEDIATE)
    yield "model.final_norm.weight", (HIDDEN,)
    yield "head.dense.weight", (HIDDEN, HIDDEN)
    yield "head.norm.weight", (HIDDEN,)
    yield "decoder.bias", (VOCAB_SIZE,)


def header() -> bytes:
    """Return the header of the weights file, with its length before it."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes():
        start, end = end, end + math.prod(shape) * np.dtype(bfloat16).itemsize
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    content = json.dumps(entries, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)  # the numbers begin at a multiple of 8, as safetensors has it
    return len(content).to_bytes(8, "little") + content


def write_weights(path: Path, seed: int) -> None:
    """Write small random numbers, but ones for the norms, a chunk at a time."""
    noise = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(header())
        for name, shape in shapes():
            size = math.prod(shape)
            for count in (min(CHUNK, size - first) for first in range(0, size, CHUNK)):
                values = np.ones(count) if "norm" in name else noise.standard_normal(count, np.float32) * 0.02
                values.astype(bfloat16).tofile(file)


def tokenizer(seed: int) -> Tokenizer:
    """Return a tokenizer in mmBERT's pipeline, whose merges join random pieces that are there already."""
    random = Random(seed)
    vocab = [*CONTROL, *TURNS, *RUNS, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    known, pieces, merges = set(vocab), list(LETTERS), []
    while len(vocab) < VOCAB_SIZE:
        left, right = random.choice(pieces), random.choice(pieces)
        merged = left + right
        if merged in known or "▁" in right:
            continue
        known.add(merged)
        vocab.append(merged)
        merges.append((left, right))
        if len(pieces) < SHORT:
            pieces.append(merged)
    model = models.BPE(
        {piece: i for i, piece in enumerate(vocab)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    result = Tokenizer(model)
    result.normalizer = normalizers.Replace(" ", "▁")
    result.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    result.post_processor = processors.TemplateProcessing("<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)])
    result.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [AddedToken(t, lstrip=t == "<mask>", normalized=False, special=True) for t in (*CONTROL[:7], *TURNS)]
    result.add_special_tokens(special)
    result.add_tokens([AddedToken(t, normalized=False) for t in (*CONTROL[7:], *RUNS)])
    return result


def main() -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    assert [len(list(shapes())), sum(math.prod(shape) for _, shape in shapes())] == [137, PARAMETERS]
    write_weights(options.out / "model.safetensors", options.seed)
    for name, content in (("config.json", CONFIG), ("tokenizer_config.json", TOKENIZER_CONFIG)):
        (options.out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tokenizer(options.seed).save(str(options.out / "tokenizer.json"))


if __name__ == "__main__":
    main()
