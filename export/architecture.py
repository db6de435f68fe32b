"""config.json -> the checked shape of the network; and back, so that every release of transformers reads it alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffutron_ort.errors import CheckpointError

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
"""What transformers takes for a setting that a ModernBERT's config.json leaves out."""

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
"""Settings for which the network knows the default alone."""

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "local_attention",
    "max_position_embeddings",
    "global_attn_every_n_layers",
)
"""Settings that are counts."""

GLOBAL, LOCAL = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Shape:
    """All that the network has to know of a config.json.

    Attributes:
        vocab_size: rows of the table.
        hidden_size: width of the stream.
        intermediate_size: width of the gated unit.
        layers: how many there are.
        heads: attention heads a layer.
        window: a local layer sees the positions with |i - j| <= window // 2.
        positions: how many positions there are rotations for.
        norm_eps: added to the variance in every norm.
        every: each layer whose index is a multiple of this is global, the others are local.
        global_theta: base of the rotary frequencies in global layers.
        local_theta: the same in local layers.
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
        """Width of an attention head."""
        return self.hidden_size // self.heads

    @property
    def is_global(self) -> tuple[bool, ...]:
        """For each layer, whether it sees everything."""
        return tuple(i % self.every == 0 for i in range(self.layers))

    @property
    def thetas(self) -> tuple[float, ...]:
        """For each layer, the base of its rotary frequencies."""
        return tuple(self.global_theta if is_global else self.local_theta for is_global in self.is_global)


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes.

    Raises:
        CheckpointError: it is of another model, or has a setting that the network does not know.
    """
    check_kind(config)
    counts = {name: count(config, name) for name in SIZES}
    global_theta, local_theta = thetas(config)
    shape = Shape(
        vocab_size=counts["vocab_size"],
        hidden_size=counts["hidden_size"],
        intermediate_size=counts["intermediate_size"],
        layers=counts["num_hidden_layers"],
        heads=counts["num_attention_heads"],
        window=counts["local_attention"],
        positions=counts["max_position_embeddings"],
        norm_eps=positive("norm_eps", setting(config, "norm_eps")),
        every=period(config, counts["num_hidden_layers"]),
        global_theta=global_theta,
        local_theta=local_theta,
    )
    if shape.hidden_size % (2 * shape.heads):
        raise CheckpointError(
            f"config.json: hidden_size {shape.hidden_size} over num_attention_heads {shape.heads} is not a whole, "
            "even number, which rotary embedding needs; correct the two"
        )
    return shape


def check_kind(config: Mapping[str, Any]) -> None:
    """Refuses other models, and settings that the network does not know."""
    if (kind := config.get("model_type")) != "modernbert":
        raise CheckpointError(
            f"config.json: model_type is {kind!r}, expected 'modernbert'; only ModernBERT checkpoints can be exported"
        )
    for name in FIXED:
        if (found := setting(config, name)) != DEFAULTS[name]:
            raise CheckpointError(
                f"config.json: {name} is {found!r}, and only {DEFAULTS[name]!r} is supported; "
                "export a checkpoint trained with that setting"
            )


def setting(config: Mapping[str, Any], name: str) -> Any:
    """The value of a setting, or what transformers takes where it is left out."""
    value = config.get(name)
    return DEFAULTS.get(name) if value is None else value


def count(config: Mapping[str, Any], name: str) -> int:
    """A setting that is a positive whole number."""
    value = setting(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json: {name} is {value!r}, expected a positive whole number; correct it")
    return value


def positive(name: str, value: Any) -> float:
    """A setting that is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise CheckpointError(f"config.json: {name} is {value!r}, expected a positive number; correct it")
    return float(value)


def thetas(config: Mapping[str, Any]) -> tuple[float, float]:
    """The rotary bases of global and local layers, from either spelling.

    transformers up to 4 reads `global_rope_theta` and `local_rope_theta`, transformers 5 reads `rope_parameters`.
    """
    return theta(config, "global_rope_theta", GLOBAL), theta(config, "local_rope_theta", LOCAL)


def rope_parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The newer spelling, empty where a config.json has the older alone."""
    found = config.get("rope_parameters") or {}
    if not isinstance(found, dict) or found.keys() - {GLOBAL, LOCAL}:
        raise CheckpointError(
            f"config.json: rope_parameters has {sorted(found)}, expected {GLOBAL} and {LOCAL}; "
            "give each kind of layer its own"
        )
    return found


def theta(config: Mapping[str, Any], older: str, layer_type: str) -> float:
    """One rotary base; where both spellings name it they have to agree."""
    parameters = rope_parameters(config).get(layer_type) or {}
    if (kind := parameters.get("rope_type", "default")) != "default":
        raise CheckpointError(
            f"config.json: rope_parameters.{layer_type}.rope_type is {kind!r}, and only 'default' is supported; "
            "export a checkpoint without scaled rotary embedding"
        )
    newer = parameters.get("rope_theta")
    if newer is not None and config.get(older) is not None and newer != config[older]:
        raise CheckpointError(
            f"config.json: {older} is {config[older]!r} and rope_parameters.{layer_type}.rope_theta is {newer!r}; "
            "they mean the same and have to agree: take out the wrong one"
        )
    return positive(older, setting(config, older) if newer is None else newer)


def period(config: Mapping[str, Any], layers: int) -> int:
    """n, where every n-th layer is global, from either spelling: `global_attn_every_n_layers` or `layer_types`."""
    types = config.get("layer_types")
    if types is None:
        return count(config, "global_attn_every_n_layers")
    older = config.get("global_attn_every_n_layers")
    for every in [older] if older else range(1, layers + 1):
        if types == layer_types(layers, every):
            return every
    raise CheckpointError(
        f"config.json: layer_types is {types!r}, expected {GLOBAL!r} at the multiples of {older or 'one number'} among "
        f"{layers} layers and {LOCAL!r} elsewhere; make it agree with global_attn_every_n_layers"
    )


def layer_types(layers: int, every: int) -> list[str]:
    """Transformers 5's spelling of `global_attn_every_n_layers`."""
    return [LOCAL if i % every else GLOBAL for i in range(layers)]


def portable_config(config: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """The config.json of a bundle: the source's, with both spellings of whatever has two.

    transformers 4.57 reads the newer spelling's local theta as 10000, and logits are off by 4.
    """
    both = {
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
    }
    return {**config, **both}
