"""config.json: both spellings, what is refused, and what a bundle says."""

import json
import math

import pytest

from diffutron_ort.errors import CheckpointError
from diffutron_ort_export.checkpoint.architecture import Shape, portable_config, read_shape
from diffutron_ort_export.checkpoint.layout import tensor_shapes
from tests.export.conftest import TINY

OLDER = json.loads((TINY / "checkpoint" / "config.json").read_text())
ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 160000},
    "sliding_attention": {"rope_type": "default", "rope_theta": 160000.0},
}
TYPES = [["full_attention", "sliding_attention", "sliding_attention"][i % 3] for i in range(7)]
NEWER = {k: v for k, v in OLDER.items() if not k.startswith(("global_", "local_rope"))} | {
    "rope_parameters": ROPE,
    "layer_types": TYPES,
}


def test_both_spellings_are_one_shape() -> None:
    assert read_shape(OLDER) == read_shape(NEWER) == read_shape(OLDER | NEWER)


def test_shape_of_tiny() -> None:
    shape = read_shape(OLDER)
    assert (shape.layers, shape.hidden_size, shape.heads, shape.head_size, shape.window) == (7, 64, 4, 16, 16)
    assert shape.is_global == (True, False, False, True, False, False, True)
    assert shape.thetas == (160_000.0,) * 7


def test_global_and_local_layers_have_their_own_theta() -> None:
    shape = read_shape(OLDER | {"local_rope_theta": 10_000})
    assert shape.thetas[:4] == (160_000.0, 10_000.0, 10_000.0, 160_000.0)


def test_what_is_left_out_is_what_transformers_takes() -> None:
    shape = read_shape({k: v for k, v in OLDER.items() if "theta" not in k and k != "max_position_embeddings"})
    assert (shape.global_theta, shape.local_theta, shape.positions) == (160_000.0, 10_000.0, 8192)


def test_the_config_of_a_bundle_carries_both_spellings() -> None:
    shape = read_shape(NEWER)
    portable = portable_config(NEWER, shape)
    assert read_shape(portable) == shape
    assert (portable["global_rope_theta"], portable["local_rope_theta"]) == (160_000.0, 160_000.0)
    assert portable["rope_parameters"] == ROPE
    assert portable["global_attn_every_n_layers"] == 3
    assert portable["layer_types"] == TYPES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert', expected 'modernbert'"),
        ({"model_type": None}, "model_type is None, expected 'modernbert'"),
        ({"local_rope_theta": 10_000, "rope_parameters": ROPE}, "local_rope_theta is 10000 and .* must agree"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_type is 'yarn', and only 'default'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling is .* only None is supported"),
        ({"rope_parameters": {"rope_theta": 160000}}, "rope_parameters is .*rope_theta.*, expected full_attention"),
        ({"local_rope_theta": "many"}, "local_rope_theta is 'many', expected a number from 1 to"),
        ({"attention_bias": True}, "attention_bias is True, and only False is supported"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"norm_bias": True}, "norm_bias is True"),
        ({"classifier_bias": True}, "classifier_bias is True"),
        ({"decoder_bias": False}, "decoder_bias is False, and only True is supported"),
        ({"hidden_activation": "silu"}, "hidden_activation is 'silu', and only 'gelu' is supported"),
        ({"classifier_activation": "relu"}, "classifier_activation is 'relu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"hidden_size": None}, "config.json has no hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, expected an integer from 1 to 256"),
        ({"num_attention_heads": 3}, "hidden_size 64 over num_attention_heads 3"),
        ({"norm_eps": 0}, "norm_eps is 0, expected a number from 1e-12 to 1"),
        (
            {"layer_types": ["full_attention"] * 7},
            "layer_types is .* expected 'full_attention' at the multiples of 3 among",
        ),
        (
            {"layer_types": TYPES[::-1][1:] + TYPES[:1], "global_attn_every_n_layers": None},
            "layer_types is .* at the multiples of one number among 7 layers",
        ),
    ],
)
def test_refused(change: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_shape(OLDER | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000, expected an integer from 1 to 256"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000, expected an integer from 1 to"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
        ({"rope_parameters": {"full_attention": []}}, "full_attention is .*expected an object"),
        ({"rope_parameters": [1]}, "rope_parameters is .*expected an object"),
        ({"rope_parameters": {"full_attention": {"type": "linear", "factor": 2}}}, "type is 'linear'"),
        ({"rope_parameters": {"full_attention": {"partial_rotary_factor": 0.5}}}, "partial_rotary_factor is 0.5"),
        ({"head_dim": 32}, "head_dim is 32, expected 16"),
        ({"sliding_window": 16}, "sliding_window is 16, expected 8"),
        ({"layer_types": "full_attention"}, "layer_types is .*expected a list"),
        ({"layer_types": [1] * 7}, "layer_types is .*expected strings"),
        ({"global_attn_every_n_layers": "3", "layer_types": TYPES}, "global_attn_every_n_layers is '3'"),
        ({"global_rope_theta": 0.5}, "global_rope_theta is 0.5, expected a number from 1 to"),
    ],
)
def test_what_is_beyond_bounds_or_unknown(change: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_shape(OLDER | change)


def test_the_same_told_twice_is_fine() -> None:
    assert read_shape(OLDER | {"head_dim": 16, "sliding_window": 8, "hidden_size": 64.0}) == read_shape(OLDER)


def test_base_has_137_tensors_and_307_786_240_parameters() -> None:
    base = Shape(256_000, 768, 1152, 22, 12, 128, 8192, 1e-5, 3, 160_000.0, 160_000.0)
    shapes = tensor_shapes(base)
    assert len(shapes) == 137
    assert sum(math.prod(size) for size in shapes.values()) == 307_786_240
    assert shapes["model.layers.21.attn.Wqkv.weight"] == (2304, 768)
