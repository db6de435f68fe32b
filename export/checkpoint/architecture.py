"""Reads the network's shape from config.json, and writes a config.json that all transformers releases read alike."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from diffutron_ort.bundle.manifest import MOST_CONTEXT, MOST_PIECES, MOST_WIDTH
from diffutron_ort.errors import CheckpointError
from diffutron_ort.files import CHECKPOINT, Fields
from diffutron_ort_export.checkpoint.messages import printable, shown
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS

DEFAULTS: Mapping[str, Any] = {
    "attention_bias": False,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "decoder_bias": True,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0,
    "hidden_activation": "gelu",
    "local_attention": 128,
    "local_rope_theta": 10_000.0,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "norm_bias": False,
    "norm_eps": 1e-5,
    "quantization_config": None,
    "rope_scaling": None,
}
"""The defaults of transformers for settings that a ModernBERT's config.json leaves out."""

FIXED = (
    "attention_bias",
    "classifier_activation",
    "classifier_bias",
    "decoder_bias",
    "hidden_activation",
    "mlp_bias",
    "norm_bias",
    "quantization_config",
    "rope_scaling",
)
"""Settings for which only the default is supported."""

MOST: Mapping[str, int] = {
    "vocab_size": MOST_PIECES,
    "hidden_size": MOST_WIDTH,
    "intermediate_size": 2**18,
    "num_hidden_layers": 256,
    "num_attention_heads": 2**12,
    "local_attention": 2**11,  # the check against transformers runs 1.5 times as many tokens
    "max_position_embeddings": MOST_CONTEXT,
    "global_attn_every_n_layers": 2**10,
}
"""The largest accepted value of each setting that is a count, so that none exhausts time or memory."""

GLOBAL, LOCAL = "full_attention", "sliding_attention"

THETAS = (1.0, 1e12)
"""The least and the largest rotary base; the frequencies of both fit float32."""

EPSILONS = (1e-12, 1.0)


def one_of(config: Fields, name: str, values: tuple[str, ...]) -> str:
    """Return a setting, if it is one of `values`."""
    if (value := config.text(name)) not in values:
        raise config.wrong(name, " or ".join(map(repr, values)))
    return value


share = partial(Fields.number, least=0.0, most=1.0)
count = partial(Fields.integer, least=0, most=MOST["vocab_size"] - 1)

COPIED: Mapping[str, Callable[[Fields, str], Any]] = {
    "attention_dropout": share,
    "classifier_dropout": share,
    "classifier_pooling": partial(one_of, values=("cls", "mean")),
    "cls_token_id": count,
    "deterministic_flash_attn": Fields.boolean,
    "embedding_dropout": share,
    "gradient_checkpointing": Fields.boolean,
    "initializer_cutoff_factor": partial(Fields.number, least=0.0, most=100.0),
    "initializer_range": share,
    "layer_norm_eps": share,
    "mlp_dropout": share,
    "position_embedding_type": partial(one_of, values=("absolute", "sans_pos")),
    "sep_token_id": count,
    "transformers_version": partial(Fields.text, most=40),
}
"""Settings that do not change what is computed, and what reads each. A bundle's config.json keeps those that are valid.

Others are not copied, whether they belong to the source's code (`auto_map`) or its author (`_name_or_path`).
"""


@dataclass(frozen=True)
class Shape:
    """The settings of config.json that the network depends on.

    Attributes:
        vocab_size: The number of rows of the token table.
        hidden_size: The width of the residual stream.
        intermediate_size: The width of the gated unit.
        layers: The number of layers.
        heads: The number of attention heads in a layer.
        window: The window of a local layer, which sees the positions with |i - j| <= window // 2.
        positions: The number of positions that there are rotations for.
        norm_eps: The constant that every norm adds to the variance.
        every: The period of global layers: a layer whose index is a multiple of it is global, all others are local.
        global_theta: The base of the rotary frequencies in global layers.
        local_theta: The base of the rotary frequencies in local layers.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    window: int
    positions: int
    norm_eps: float
    every: int
    global_theta: float
    local_theta: float

    @property
    def head_size(self) -> int:
        """The width of an attention head."""
        return self.hidden_size // self.heads

    @property
    def is_global(self) -> tuple[bool, ...]:
        """Whether each layer is global, and sees all positions."""
        return tuple(i % self.every == 0 for i in range(self.layers))

    @property
    def thetas(self) -> tuple[float, ...]:
        """The base of each layer's rotary frequencies."""
        return tuple(self.global_theta if is_global else self.local_theta for is_global in self.is_global)


def read_shape(config: Mapping[str, Any]) -> Shape:
    """Return the shape that a config.json describes.

    Raises:
        CheckpointError: It describes another model, or has a setting that is not supported.
    """
    given = Fields(config, "config.json", CHECKPOINT)
    check_kind(given)
    settings = Fields(with_defaults(config), "config.json", CHECKPOINT)
    counts = {name: settings.integer(name, 1, most) for name, most in MOST.items()}
    shape = Shape(
        vocab_size=counts["vocab_size"],
        hidden_size=counts["hidden_size"],
        intermediate_size=counts["intermediate_size"],
        layers=counts["num_hidden_layers"],
        heads=counts["num_attention_heads"],
        window=counts["local_attention"],
        positions=counts["max_position_embeddings"],
        norm_eps=settings.number("norm_eps", *EPSILONS),
        every=period(given, counts),
        global_theta=theta(given, "global_rope_theta", GLOBAL),
        local_theta=theta(given, "local_rope_theta", LOCAL),
    )
    check_heads(given, shape)
    return shape


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings, with the default for those that are missing or null."""
    return {**DEFAULTS, **{name: value for name, value in config.items() if value is not None}}


def check_kind(config: Fields) -> None:
    """Check that the model is a ModernBERT with supported settings."""
    if (kind := config.values.get("model_type")) != "modernbert":
        raise CheckpointError(
            f"config.json: model_type is {shown(kind)}, expected 'modernbert'; only ModernBERT checkpoints can be "
            "exported"
        )
    settings = with_defaults(config.values)
    for name in FIXED:
        if settings[name] != DEFAULTS[name]:
            raise CheckpointError(
                f"config.json: {name} is {shown(settings[name])}, and only {DEFAULTS[name]!r} is supported; "
                "export a checkpoint trained with that setting"
            )


def check_heads(config: Fields, shape: Shape) -> None:
    """Check that the head size is even, and that settings under other names agree with the counts."""
    if shape.hidden_size % (2 * shape.heads):
        raise CheckpointError(
            f"config.json: hidden_size {shape.hidden_size} over num_attention_heads {shape.heads} is not a whole, "
            "even number, which rotary embedding needs; correct the two"
        )
    for name, value in (("head_dim", shape.head_size), ("sliding_window", shape.window // 2)):
        if name in config and config.values[name] != value:
            raise config.wrong(name, f"{value}, as the other settings make it")


def theta(config: Fields, older: str, layer_type: str) -> float:
    """Return a rotary base from either spelling; if both have it, they must agree.

    transformers up to 4 reads `global_rope_theta` and `local_rope_theta`, transformers 5 reads `rope_parameters`.
    """
    newer = rope_parameters(config, layer_type)
    if "rope_theta" in newer and older in config and newer.values["rope_theta"] != config.values[older]:
        raise CheckpointError(
            f"config.json: {older} is {shown(config.values[older])} and rope_parameters.{layer_type}.rope_theta is "
            f"{shown(newer.values['rope_theta'])}; they mean the same and must agree: remove the wrong one"
        )
    if "rope_theta" in newer:
        return newer.number("rope_theta", *THETAS)
    return config.number(older, *THETAS) if older in config else float(DEFAULTS[older])


def rope_parameters(config: Fields, layer_type: str) -> Fields:
    """Return the newer spelling for a type of layer; empty if config.json has only the older one."""
    nothing = Fields({}, config.place, config.artifact)
    both = config.fields("rope_parameters") if "rope_parameters" in config else nothing
    if set(both) - {GLOBAL, LOCAL}:
        raise config.wrong("rope_parameters", f"{GLOBAL} and {LOCAL} alone, each with its own")
    found = both.fields(layer_type) if layer_type in both else nothing
    for name in found:
        expected = ("default", None) if name in ("rope_type", "type") else (None,)
        if name != "rope_theta" and found.values[name] not in expected:
            raise CheckpointError(
                f"config.json: rope_parameters.{layer_type}.{printable(name)} is {shown(found.values[name])}, and only "
                f"{expected[0]!r} is supported; export a checkpoint without scaled rotary embedding"
            )
    return found


def period(config: Fields, counts: Mapping[str, int]) -> int:
    """Return the period of global layers from either spelling: `global_attn_every_n_layers` or `layer_types`."""
    if "layer_types" not in config:
        return counts["global_attn_every_n_layers"]
    types, layers = config.texts("layer_types", 40), counts["num_hidden_layers"]
    older = "global_attn_every_n_layers" in config
    for every in [counts["global_attn_every_n_layers"]] if older else range(1, layers + 1):
        if types == layer_types(layers, every):
            return every
    raise config.wrong(
        "layer_types",
        f"{GLOBAL!r} at the multiples of {counts['global_attn_every_n_layers'] if older else 'one number'} among "
        f"{layers} layers and {LOCAL!r} elsewhere, as global_attn_every_n_layers has it",
    )


def layer_types(layers: int, every: int) -> list[str]:
    """Return `layer_types`, transformers 5's spelling of `global_attn_every_n_layers`."""
    return [LOCAL if i % every else GLOBAL for i in range(layers)]


def portable_config(config: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Return the config.json of a bundle: the source's known settings, in both spellings if there are two.

    Given the newer spelling alone, transformers 4.57 takes 10000 for the local theta, and logits are off by 4. Without
    special ids, it takes ids beyond the vocabulary.
    """
    kept = copied(Fields(config, "config.json", CHECKPOINT))
    always = {
        "architectures": ["ModernBertForMaskedLM"],
        "global_attn_every_n_layers": shape.every,
        "layer_types": layer_types(shape.layers, shape.every),
        "global_rope_theta": shape.global_theta,
        "local_rope_theta": shape.local_theta,
        "rope_parameters": {
            GLOBAL: {"rope_type": "default", "rope_theta": shape.global_theta},
            LOCAL: {"rope_type": "default", "rope_theta": shape.local_theta},
        },
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "dtype": "float32",
        **{f"{role}_token_id": number for role, number in SPECIAL_IDS.items() if role != "unk"},
        **{name: kept.get(name, SPECIAL_IDS["eos"]) for name in ("cls_token_id", "sep_token_id")},
    }
    known = {**kept, **sizes(shape), **fixed(), **always}
    return {name: known[name] for name in config if name in known and config[name] is not None} | always


def copied(config: Fields) -> dict[str, Any]:
    """Return the settings that do not change what is computed, if they are valid."""
    found: dict[str, Any] = {}
    for name, read in COPIED.items():
        with contextlib.suppress(CheckpointError):
            found[name] = read(config, name)
    return found


def sizes(shape: Shape) -> dict[str, Any]:
    """Return the settings of a shape that have one spelling."""
    return {
        "model_type": "modernbert",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "local_attention": shape.window,
        "max_position_embeddings": shape.positions,
        "norm_eps": shape.norm_eps,
    }


def fixed() -> dict[str, Any]:
    """Return the settings that have one supported value."""
    return {name: DEFAULTS[name] for name in FIXED}
