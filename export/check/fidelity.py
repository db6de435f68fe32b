"""Measures how far a quantized graph is from float32: single passes at three mask ratios, and greedy generations."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import FidelityError
from diffutron_ort.runtime.contract import OWN_INPUTS, Forward, PassInput, Predictions
from diffutron_ort.sampler.canvas import Canvas, for_generation
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.sampler.sequence import Step
from diffutron_ort.text.chat_template import CHAT_TEMPLATE, render_chat
from diffutron_ort.types import SpecialIds
from diffutron_ort_export.check.coverage import coverage
from diffutron_ort_export.check.verify import GraphSession, Reference, log_softmax
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.network import Denoiser, build
from diffutron_ort_export.graph.onnx_graph import Graph, trace
from diffutron_ort_export.passages import PASSAGES, QUESTIONS

Ids = NDArray[np.int64]
Floats = NDArray[np.floating]

RATIOS = (0.15, 0.5, 0.9)
LENGTH, ROWS = 128, 24
"""The most tokens of a canvas for a single pass, and the most masks whose logits are compared."""

ANSWER = 32
"""The number of tokens, and of steps, in a generation."""

DECIDED = 0.01
"""The least lead in probability of float32's best token at which float32 is decided."""

BEYOND = 2 * 2**0.5
"""Two standard deviations of the difference of two logits' errors, in units of the errors' root mean square."""

SEED = 20260323


class Masked(NamedTuple):
    """A canvas for one pass."""

    ratio: float
    ids: Ids  # [seq]
    rows: Ids  # [n], masks among them


@dataclass(frozen=True)
class Rows:
    """The results of comparing rows with float32, each [n]."""

    same: NDArray[np.bool_]  # whether the best token is float32's
    lead: Floats  # of float32's best token over its second
    error: Floats  # root mean square of the logits' differences
    decided: NDArray[np.bool_]  # whether float32 gives its best token DECIDED more probability than its second
    kl: Floats
    finite: NDArray[np.bool_]

    def card(self) -> dict[str, Any]:
        """Return the figures of the rows for the fidelity card."""
        clear = self.lead > self.error
        return {
            "rows": len(self.same),
            "top1_agreement": float(self.same.mean()),
            "clear_share": float(clear.mean()),
            "top1_agreement_clear": float(self.same[clear].mean()) if clear.any() else None,
            "kl": float(self.kl.mean()),
        }

    def agreement(self) -> float:
        """Return the share of clear rows that have float32's best token.

        Clear rows are those where float32 is decided and leads by more than the error. If they are fewer than half of
        the decided rows, the error is large, and all decided rows count. If float32 is never decided, as with random
        weights, the rows count whose lead exceeds nearly all errors.
        """
        counted = self.decided if self.decided.any() else self.lead > BEYOND * self.error
        clear = counted & (self.lead > self.error)
        counted = clear if 2 * clear.sum() >= counted.sum() else counted
        return float(self.same[counted].mean()) if counted.any() else 0.0


def join(parts: Sequence[Rows]) -> Rows:
    """Join several comparisons into one."""
    return Rows(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Rows)))


def compare_rows(expected: Floats, found: Floats) -> Rows:
    """Compare logits of the same rows, each [n, vocab]; a row with a logit that is not finite is wrong."""
    finite: NDArray[np.bool_] = np.isfinite(found).all(axis=-1)  # type: ignore[assignment]  # a row each
    found = np.where(finite[:, None], found, -expected)
    second, best = np.partition(expected, -2, axis=-1)[:, -2:].T
    error = np.sqrt(np.square(found - expected, dtype=np.float64).mean(axis=-1))
    p, q = log_softmax(expected), log_softmax(found)
    decided = np.exp(p.max(axis=-1)) * -np.expm1(second - best) > DECIDED
    same = (expected.argmax(-1) == found.argmax(-1)) & finite
    return Rows(same, best - second, error, decided, (np.exp(p) * (p - q)).sum(axis=-1), finite)


def canvases(source: Source) -> list[Masked]:
    """Return the passages as tokens of the source, masked at random in each ratio."""
    random, mask = np.random.default_rng(SEED), source.tokenizer.special_ids["mask"]
    result = []
    for ratio in RATIOS:
        for ids in encoded(source, PASSAGES):
            ids = ids[: min(LENGTH, source.shape.positions)]
            masks = np.flatnonzero(random.random(ids.size) < ratio)
            masks = masks if masks.size else np.array([ids.size // 2])
            hidden = np.where(np.isin(np.arange(ids.size), masks), mask, ids)
            result.append(Masked(ratio, hidden, np.sort(random.permutation(masks)[:ROWS])))
    return result


def encoded(source: Source, texts: Sequence[str]) -> Iterator[Ids]:
    """Yield the ids [seq] of each text."""
    for text in texts:
        yield np.array(source.tokenizer.encode(text), np.int64)


def pass_over(ids: Ids, rows: Ids) -> PassInput:
    """Return the input of a pass over one sequence [seq], without penalty."""
    one = np.ones(1, np.float32)
    return PassInput(ids[None], np.arange(ids.size)[None], rows, np.zeros((1, 1), np.int64), one, one)


def logits_of(forward: Forward, canvas: Masked) -> Floats:
    """Return the raw logits [n, vocab] of a canvas's rows."""
    logits = forward(pass_over(canvas.ids, canvas.rows), logits=True).logits
    assert logits is not None, "they were requested"
    return np.asarray(logits)


class TorchForward:
    """The denoiser in torch, as a model for the engine."""

    batch_invariant = True

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, batch: PassInput, *, logits: bool = False) -> Predictions:
        """Run one pass over all tokens."""
        nothing = torch.zeros(self.denoiser.layers, len(batch.input_ids), 0, self.denoiser.hidden_size)
        given = {name: torch.from_numpy(np.ascontiguousarray(getattr(batch, name))) for name in OWN_INPUTS}
        past = {"past_position_ids": nothing[0, :, :, 0].long(), "past_key": nothing, "past_value": nothing}
        with torch.inference_mode():
            return predictions({k: v.numpy() for k, v in self.denoiser(**given, **past)._asdict().items()}, logits)


class GraphForward:
    """A graph in ONNX Runtime, as a model for the engine."""

    batch_invariant = False  # not every variant is

    def __init__(self, session: GraphSession) -> None:
        self.session = session

    def __call__(self, batch: PassInput, *, logits: bool = False) -> Predictions:
        """Run one pass over all tokens."""
        own = {name: getattr(batch, name) for name in OWN_INPUTS}
        return predictions(self.session.run(own.pop("input_ids"), own.pop("position_ids"), **own), logits)


def predictions(found: Mapping[str, NDArray[Any]], logits: bool) -> Predictions:
    """Return the outputs of a pass that the engine reads."""
    return Predictions(
        top_ids=found["top_ids"],
        top_logits=found["top_logits"],
        rest=found["rest"],
        rest_tempered=found["rest_tempered"],
        entropy=found["entropy"],
        logits=found["logits"] if logits else None,
    )


def passes(reference: Sequence[Floats], forward: Forward, masked: Sequence[Masked]) -> dict[float, Rows]:
    """Compare a model's passes over the canvases with the reference's logits, by ratio."""
    by_ratio: dict[float, list[Rows]] = {ratio: [] for ratio in RATIOS}
    for expected, canvas in zip(reference, masked, strict=True):
        by_ratio[canvas.ratio].append(compare_rows(expected, logits_of(forward, canvas)))
    return {ratio: join(rows) for ratio, rows in by_ratio.items()}


def trajectory(forward: Forward, source: Source, prompt: Ids) -> list[Step]:
    """Return the steps of a greedy answer to a prompt [seq], one token per step, with the package's penalty."""
    config = GenerationConfig(steps=ANSWER, max_new_tokens=ANSWER, block_length=ANSWER, temperature=0)
    special = SpecialIds(**source.tokenizer.special_ids)
    canvas: Canvas = for_generation(prompt.tolist(), ANSWER, special.mask)
    return [step for _, step in denoise(forward, [canvas], config, special)]


def prompts(source: Source) -> list[Ids]:
    """Return the questions in the chat template as tokens of the source, if they and an answer fit."""
    rendered = [render_chat([{"role": "user", "content": text}], CHAT_TEMPLATE) for text in QUESTIONS]
    most = source.shape.positions - ANSWER
    return [ids for ids in encoded(source, rendered) if ids.size <= most]


def trajectories(expected: Sequence[Sequence[Step]], found: Sequence[Sequence[Step]]) -> dict[str, Any]:
    """Return the figures of generations: identical ones, equal tokens, and the first step that differs in each."""
    pairs = list(zip(expected, found, strict=True))
    same = [(a[-1].ids == b[-1].ids)[a[-1].start :].mean() for a, b in pairs]  # empty if no question fits the context
    return {
        "count": len(pairs),
        "steps": ANSWER,
        "identical": sum((a[-1].ids == b[-1].ids).all().item() for a, b in pairs),
        "same_tokens": float(np.mean(same)) if same else None,
        "first_divergence": [first_difference(a, b) for a, b in pairs],
    }


def first_difference(expected: Sequence[Step], found: Sequence[Step]) -> int | None:
    """Return the first step, from 0, after which the canvases differ; None if there is none."""
    return next((a.index for a, b in zip(expected, found, strict=True) if (a.ids != b.ids).any()), None)


class Fp32Baseline:
    """The logits and generations of a source at float32, computed once and used for every variant.

    The logits come from transformers, the generations from this package's network, which is faster.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.masked = canvases(source)

    @functools.cached_property
    def reference(self) -> Reference:
        """The checkpoint in transformers."""
        return Reference(self.source)

    @functools.cached_property
    def denoiser(self) -> Denoiser:
        """The network at float32."""
        return build(self.source.shape, self.source.tensors, self.source.output_vocabulary)

    @functools.cached_property
    def _traced(self) -> Graph:
        return trace(self.source)

    def graph(self) -> Graph:
        """Return a copy of the float32 graph, to be rewritten."""
        return Graph(self._traced.model.clone())

    @functools.cached_property
    def logits(self) -> list[Floats]:
        """The logits [n, vocab] of each canvas's rows."""
        return [
            self.reference.logits(canvas.ids[None], np.ones((1, canvas.ids.size), bool))[0, canvas.rows]
            for canvas in self.masked
        ]

    def coverage(self) -> dict[str, Any] | None:
        """Return what the output vocabulary loses on the passages and their canvases; None if it is the whole one."""
        if self.source.output_vocabulary is None:
            return None
        rows = [
            self.reference.all_logits(canvas.ids[None], np.ones((1, canvas.ids.size), bool))[0, canvas.rows]
            for canvas in self.masked[:: len(PASSAGES) // 2]
        ]
        texts = np.concatenate(list(encoded(self.source, PASSAGES)))
        return coverage(np.array(self.source.output_vocabulary), np.concatenate(rows), texts)

    @functools.cached_property
    def steps(self) -> list[list[Step]]:
        """The steps of each question's answer."""
        forward = TorchForward(self.denoiser)
        return [trajectory(forward, self.source, prompt) for prompt in prompts(self.source)]

    def rows(self, forward: Forward, every: int = 1) -> dict[float, Rows]:
        """Compare a model's passes with float32's, by ratio, over every canvas or every `every`-th one."""
        return passes(self.logits[::every], forward, self.masked[::every])

    def card(self, forward: Forward, name: str) -> dict[str, Any]:
        """Return the fidelity card of a model, from its passes and generations.

        Args:
            forward: The model.
            name: The variant's name, for errors.

        Raises:
            FidelityError: A logit is not finite.
        """
        by_ratio = self.rows(forward)
        whole = join(list(by_ratio.values()))
        if not whole.finite.all():
            raise FidelityError(
                f"variant {name}: {(~whole.finite).sum()} of {whole.finite.size} rows have logits that are not finite. "
                "Nothing was written; choose another variant for this checkpoint"
            )
        found = [trajectory(forward, self.source, prompt) for prompt in prompts(self.source)]
        return {
            **whole.card(),
            "agreement": whole.agreement(),
            "mask_ratios": {str(ratio): rows.card() for ratio, rows in by_ratio.items()},
            "trajectories": trajectories(self.steps, found),
        }
