"""The graphs' inputs and outputs, one row each; what a pass is given and what it returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffutron_ort.types import Floats, Ids


class Value(NamedTuple):
    """An input or an output of a graph.

    Attributes:
        name: Its name in the graph; of a value that every layer has, the name before the layer's number.
        dtype: Its element type, as numpy names it.
        axes: The name of each axis, or its size where that is always the same; () for a scalar.
        meaning: What it holds.
        per_layer: Whether the graph has one for each layer, called `name.0`, `name.1`, ….
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]
    meaning: str
    per_layer: bool = False

    @property
    def onnx_type(self) -> str:
        """ONNX Runtime's name for its type."""
        return f"tensor({'float' if self.dtype == 'float32' else self.dtype})"

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Return its shape, given the size of each named axis."""
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)

    def of_layer(self, layer: int) -> "Value":
        """Return the value of one layer, under its full name."""
        return self._replace(name=f"{self.name}.{layer}", per_layer=False)


def for_layers(values: Sequence[Value], layers: int) -> tuple[Value, ...]:
    """Return the values of a graph with so many layers, in the graph's order: those of each layer stand together."""
    shared = [value for value in values if not value.per_layer]
    layered = [value for value in values if value.per_layer]
    return (*shared, *(value.of_layer(i) for i in range(layers) for value in layered))


MODEL_AXES = ("hidden", "k", "columns")
"""The axes whose size the model fixes; the size of any other named axis can differ from pass to pass."""

DENOISER_INPUTS = (
    Value("input_ids", "int64", ("batch", "seq"), "the tokens to compute in this pass"),
    Value("position_ids", "int64", ("batch", "seq"), "their places in the canvas; -1 is padding"),
    Value("past_position_ids", "int64", ("batch", "past"), "places of the cached tokens, in any order; -1 is none"),
    Value("rows", "int64", ("n",), "flat indices into batch × seq of the positions to predict"),
    Value("seen_ids", "int64", ("batch", "u"), "ids under repetition penalty, ascending, padded by repeating the last"),
    Value("suppress_ids", "int64", ("batch", "s"), "ids never to choose, padded by repeating one"),
    Value("repetition_penalty", "float32", ("batch",), "1 is none"),
    Value("temperature", "float32", ("batch",), "of `rest_tempered`; 1 where it is not used"),
    Value("target_ids", "int64", ("n", "t"), "ids whose logits are wanted"),
    Value("want_logits", "bool", (), "whether to return `logits`"),
    Value("want_entropy", "bool", (), "whether to compute `entropy`"),
    Value("past_key", "float32", ("batch", "past", "hidden"), "cached keys, after rotary embedding", per_layer=True),
    Value("past_value", "float32", ("batch", "past", "hidden"), "cached values", per_layer=True),
)
DENOISER_OUTPUTS = (
    Value("top_ids", "int64", ("n", "k"), "the k = min(64, columns) best tokens, best first, lower id first if equal"),
    Value("top_logits", "float32", ("n", "k"), "their logits, after the repetition penalty"),
    Value("rest", "float32", ("n",), "Σ exp(logit − best) over all tokens but the best"),
    Value("rest_tempered", "float32", ("n",), "Σ exp((logit − best) / temperature) over all tokens but the best"),
    Value("entropy", "float32", ("n",), "of the penalised distribution, in nats; without meaning unless wanted"),
    Value(
        "target_logits",
        "float32",
        ("n", "t"),
        "of `target_ids`, before penalty and suppression; -inf for one that the graph cannot predict",
    ),
    Value(
        "logits",
        "float32",
        ("m", "columns"),
        "before penalty and suppression, a column for each id that the graph "
        "can predict; m is n if they are wanted, else 0",
    ),
    Value("key", "float32", ("batch", "seq", "hidden"), "keys of the computed tokens", per_layer=True),
    Value("value", "float32", ("batch", "seq", "hidden"), "values of the computed tokens", per_layer=True),
)

OWN_INPUTS = tuple(value.name for value in DENOISER_INPUTS if "past" not in value.axes)
"""The denoiser's inputs that say what to compute and what to predict; the others are the past."""

REDUCTIONS = tuple(value.name for value in DENOISER_OUTPUTS if value.axes[0] == "n" and "t" not in value.axes)
"""The denoiser's outputs that every pass fetches: a line for each predicted row."""

GENERATION_INPUTS = (
    Value("prompt_ids", "int64", (1, "length"), "the prompt; may be empty"),
    Value("max_new_tokens", "int64", (), "at least 1; with the prompt at most the manifest's `context_length`"),
    Value("steps", "int64", (), "at least 1"),
    Value("block_length", "int64", (), "at least 1"),
    Value("temperature", "float32", (), "0 takes the best token; otherwise at least 0.01"),
    Value("repetition_penalty", "float32", (), "above 0; 1 is none"),
    Value("seed", "int64", (), "the 64 bits of an unsigned number"),
    Value("stop_ids", "int64", ("stops", "longest"), "sequences that end the answer, padded with -1"),
)
GENERATION_OUTPUTS = (
    Value("ids", "int64", (1, "total"), "prompt and answer; `<pad>` after the answer's end"),
    Value("answer_length", "int64", (), "number of tokens of the answer before its end"),
    Value("steps_taken", "int64", (), "number of passes"),
)

GENERATION_OPTIONS = tuple(value.name for value in GENERATION_INPUTS if not value.axes)
"""The options of `GenerationConfig` that the generation graph has."""

KVCache: TypeAlias = object
"""Keys and values that a pass computed for one sequence: a handle that only the model which returned it can read."""


@dataclass(frozen=True)
class Past:
    """The tokens that a pass attends to without computing them.

    Attributes:
        position_ids: int64 [batch, past], their places in the canvas; -1 is none.
        caches: For each sequence, what an earlier pass of the same `Forward` returned for it. Its first keys and values
            are those of the places 0, 1, … of its canvas.
    """

    position_ids: Ids
    caches: Sequence[KVCache]


@dataclass(frozen=True)
class PassInput:
    """The inputs of one pass, named as in the denoiser's graph.

    Attributes:
        input_ids: int64 [batch, seq], the tokens to compute; shorter sequences are padded on the right.
        position_ids: int64 [batch, seq], their places in the canvas; -1 is padding.
        rows: int64 [n], flat indices into batch x seq of the positions to predict, ascending.
        seen_ids: int64 [batch, u], the ids under repetition penalty, ascending, padded by repeating the last.
        suppress_ids: int64 [batch, s], ids never to choose, padded by repeating one.
        repetition_penalty: float32 [batch].
        temperature: float32 [batch].
        target_ids: int64 [n, t], ids whose raw logits are wanted.
        want_logits: Whether `Predictions.logits` is wanted.
        want_entropy: Whether `Predictions.entropy` is wanted.
        past: The other tokens; None where all are computed.
        return_kv: Whether `Predictions.kv_caches` is wanted.
    """

    input_ids: Ids
    position_ids: Ids
    rows: Ids
    seen_ids: Ids
    suppress_ids: Ids
    repetition_penalty: NDArray[np.float32]
    temperature: NDArray[np.float32]
    target_ids: Ids
    want_logits: bool = False
    want_entropy: bool = False
    past: Past | None = None
    return_kv: bool = False


@dataclass(frozen=True)
class Predictions:
    """What a pass predicts for its rows, after the repetition penalty and without the suppressed ids.

    Attributes:
        top_ids: int64 [n, k], the best tokens, best first, the lower id first among equals.
        top_logits: float32 [n, k], their logits.
        rest: float [n], the sum of exp(logit - best) over all tokens but the best.
        rest_tempered: float [n], the sum of exp((logit - best) / temperature) over all tokens but the best.
        entropy: float [n], in nats; without meaning unless wanted.
        target_logits: float32 [n, t], raw; -inf for a token that the graph cannot predict.
        logits: float32 [n, vocab], raw, -inf for a token that the graph cannot predict; None unless wanted.
        kv_caches: One for each sequence of the pass; None unless wanted.
    """

    top_ids: Ids
    top_logits: Floats
    rest: Floats
    rest_tempered: Floats
    entropy: Floats
    target_logits: Floats
    logits: Floats | None = None
    kv_caches: Sequence[KVCache] | None = None


class Forward(Protocol):
    """A model, as the sampler calls it."""

    @property
    def batch_invariant(self) -> bool:
        """Whether a sequence's predictions are the same whatever else is in the pass.

        If they are not, the engine gives the sequence a pass of its own, unpadded.
        """

    def __call__(self, given: PassInput, /) -> Predictions:
        """Return the predictions of `given.rows`.

        A model that runs without a cache can ignore `given.past` and `given.return_kv`.
        """
        ...
