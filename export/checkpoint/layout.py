"""The tensors of a ModernBertForMaskedLM checkpoint: their names and shapes."""

from diffutron_ort_export.checkpoint.architecture import Shape

TABLE, BIAS = "model.embeddings.tok_embeddings.weight", "decoder.bias"
"""The token table, float32 [vocab, hidden], and the output bias, float32 [vocab]."""

TIED = "decoder.weight"
"""The second name of the table, under which some checkpoints store it again."""

HEAD = ("head.dense.weight", "head.norm.weight", BIAS)
"""The masked-language-model head, which a checkpoint saved by AutoModel lacks."""


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that a checkpoint has; the tied table is listed once."""
    hidden = shape.hidden_size
    layers: dict[str, tuple[int, ...]] = {}
    for index in range(shape.layers):
        layers |= layer_shapes(shape, index)
    return {
        TABLE: (shape.vocab_size, hidden),
        "model.embeddings.norm.weight": (hidden,),
        **layers,
        "model.final_norm.weight": (hidden,),
        "head.dense.weight": (hidden, hidden),
        "head.norm.weight": (hidden,),
        BIAS: (shape.vocab_size,),
    }


def layer_shapes(shape: Shape, index: int) -> dict[str, tuple[int, ...]]:
    """Return the tensors of one layer; the first has no attention norm, for the embedding has just been normalized."""
    hidden, name = shape.hidden_size, f"model.layers.{index}"
    return {
        **({f"{name}.attn_norm.weight": (hidden,)} if index else {}),
        f"{name}.attn.Wqkv.weight": (3 * hidden, hidden),
        f"{name}.attn.Wo.weight": (hidden, hidden),
        f"{name}.mlp_norm.weight": (hidden,),
        f"{name}.mlp.Wi.weight": (2 * shape.intermediate_size, hidden),
        f"{name}.mlp.Wo.weight": (hidden, shape.intermediate_size),
    }
