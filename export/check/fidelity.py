"""How far a quantized graph is from float32: single passes at three shares of masks, and whole greedy generations."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import FidelityError
from diffutron_ort.runtime.contract import Forward, PassInput, Predictions
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
"""Of a canvas of a single pass: the most tokens, and the most masks whose logits are compared."""

OWN = ("input_ids", "position_ids", "rows", "seen_ids", "repetition_penalty", "temperature")
"""The graph's inputs that are of the computed tokens."""

ANSWER = 32
"""Tokens, and steps, of a generation."""

DECIDED = 0.01
"""By how much probability float32's best token leads where it is decided."""

BEYOND = 2 * 2**0.5
"""Two standard deviations of the difference of two logits' errors, in roots of their mean square."""

SEED = 20260323


class Masked(NamedTuple):
    """A canvas for one pass."""

    ratio: float
    ids: Ids  # [seq]
    rows: Ids  # [n], masks among them


@dataclass(frozen=True)
class Rows:
    """What the comparison of some rows found, each [n]."""

    same: NDArray[np.bool_]  # whether the best token is float32's
    lead: Floats  # of float32's best token over its second
    error: Floats  # root of the mean square of the logits' differences
    decided: NDArray[np.bool_]  # whether float32 gives its best token DECIDED more probability than its second
    kl: Floats
    finite: NDArray[np.bool_]

    def card(self) -> dict[str, Any]:
        """Its figures."""
        clear = self.lead > self.error
        return {
            "rows": len(self.same),
            "top1_agreement": float(self.same.mean()),
            "clear_share": float(clear.mean()),
            "top1_agreement_clear": float(self.same[clear].mean()) if clear.any() else None,
            "kl": float(self.kl.mean()),
        }

    def agreement(self) -> float:
        """The share, with float32's best token, of the rows of which that can be asked.

        They are the rows where float32 is decided and leads by more than the error. Where that is less than half of
        the decided ones, it is the error that is large, and all decided ones count. Of a float32 that is never decided
        (as random weights are) the rows count whose lead is beyond nearly all of the errors that it can meet.
        """
        asked = self.decided if self.decided.any() else self.lead > BEYOND * self.error
        clear = asked & (self.lead > self.error)
        asked = clear if 2 * clear.sum() >= asked.sum() else asked
        return float(self.same[asked].mean()) if asked.any() else 0.0


def join(parts: Sequence[Rows]) -> Rows:
    """Several comparisons as one."""
    return Rows(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Rows)))


def compare_rows(expected: Floats, found: Floats) -> Rows:
    """Compares logits of the same rows, each [n, vocab]; a logit that is not finite is as wrong as can be."""
    finite: NDArray[np.bool_] = np.isfinite(found).all(axis=-1)  # type: ignore[assignment]  # a row each
    found = np.where(finite[:, None], found, -expected)
    second, best = np.partition(expected, -2, axis=-1)[:, -2:].T
    error = np.sqrt(np.square(found - expected, dtype=np.float64).mean(axis=-1))
    p, q = log_softmax(expected), log_softmax(found)
    decided = np.exp(p.max(axis=-1)) * -np.expm1(second - best) > DECIDED
    same = (expected.argmax(-1) == found.argmax(-1)) & finite
    return Rows(same, best - second, error, decided, (np.exp(p) * (p - q)).sum(axis=-1), finite)


def canvases(source: Source) -> list[Masked]:
    """The passages in the source's tokens, masked at random in each of the ratios."""
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
    """Texts as ids [seq]."""
    for text in texts:
        yield np.array(source.tokenizer.encode(text), np.int64)


def pass_over(ids: Ids, rows: Ids) -> PassInput:
    """A batch of one sequence [seq], without penalty."""
    one = np.ones(1, np.float32)
    return PassInput(ids[None], np.arange(ids.size)[None], rows, np.zeros((1, 1), np.int64), one, one)


def logits_of(forward: Forward, canvas: Masked) -> Floats:
    """Raw logits [n, vocab] of a canvas's rows."""
    logits = forward(pass_over(canvas.ids, canvas.rows), logits=True).logits
    assert logits is not None, "they were asked for"
    return np.asarray(logits)


class TorchForward:
    """The denoiser in torch, as the loop's model."""

    batch_invariant = True

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser

    def __call__(self, batch: PassInput, *, logits: bool = False) -> Predictions:
        """Runs one pass over all tokens."""
        nothing = torch.zeros(self.denoiser.layers, len(batch.input_ids), 0, self.denoiser.hidden_size)
        given = {name: torch.from_numpy(np.ascontiguousarray(getattr(batch, name))) for name in OWN}
        past = {"past_position_ids": nothing[0, :, :, 0].long(), "past_key": nothing, "past_value": nothing}
        with torch.inference_mode():
            return predictions({k: v.numpy() for k, v in self.denoiser(**given, **past)._asdict().items()}, logits)


class GraphForward:
    """A graph in ONNX Runtime, as the loop's model."""

    batch_invariant = False  # not every variant is

    def __init__(self, session: GraphSession) -> None:
        self.session = session

    def __call__(self, batch: PassInput, *, logits: bool = False) -> Predictions:
        """Runs one pass over all tokens."""
        own = {name: getattr(batch, name) for name in OWN}
        return predictions(self.session.run(own.pop("input_ids"), own.pop("position_ids"), **own), logits)


def predictions(found: Mapping[str, NDArray[Any]], logits: bool) -> Predictions:
    """What the loop reads of a pass's outputs."""
    return Predictions(
        top_ids=found["top_ids"],
        top_logits=found["top_logits"],
        rest=found["rest"],
        rest_tempered=found["rest_tempered"],
        entropy=found["entropy"],
        logits=found["logits"] if logits else None,
    )


def passes(reference: Sequence[Floats], forward: Forward, masked: Sequence[Masked]) -> dict[float, Rows]:
    """A model's passes over the canvases against the reference's logits, by ratio."""
    by_ratio: dict[float, list[Rows]] = {ratio: [] for ratio in RATIOS}
    for expected, canvas in zip(reference, masked, strict=True):
        by_ratio[canvas.ratio].append(compare_rows(expected, logits_of(forward, canvas)))
    return {ratio: join(rows) for ratio, rows in by_ratio.items()}


def trajectory(forward: Forward, source: Source, prompt: Ids) -> list[Step]:
    """The steps of a greedy answer to a prompt [seq], one token a step, with the package's penalty."""
    config = GenerationConfig(steps=ANSWER, max_new_tokens=ANSWER, block_length=ANSWER, temperature=0)
    special = SpecialIds(**source.tokenizer.special_ids)
    canvas: Canvas = for_generation(prompt.tolist(), ANSWER, special.mask)
    return [step for _, step in denoise(forward, [canvas], config, special)]


def prompts(source: Source) -> list[Ids]:
    """The questions in the chat template, in the source's tokens, as far as they and an answer fit."""
    rendered = [render_chat([{"role": "user", "content": text}], CHAT_TEMPLATE) for text in QUESTIONS]
    most = source.shape.positions - ANSWER
    return [ids for ids in encoded(source, rendered) if ids.size <= most]


def trajectories(expected: Sequence[Sequence[Step]], found: Sequence[Sequence[Step]]) -> dict[str, Any]:
    """The figures of whole generations: the same ones, the same tokens, and the first step that differs in each."""
    pairs = list(zip(expected, found, strict=True))
    same = [(a[-1].ids == b[-1].ids)[a[-1].start :].mean() for a, b in pairs]  # none if no question fits the context
    return {
        "count": len(pairs),
        "steps": ANSWER,
        "identical": sum((a[-1].ids == b[-1].ids).all().item() for a, b in pairs),
        "same_tokens": float(np.mean(same)) if same else None,
        "first_divergence": [first_difference(a, b) for a, b in pairs],
    }


def first_difference(expected: Sequence[Step], found: Sequence[Step]) -> int | None:
    """The first step after which the canvases differ, from 0; None if there is none."""
    return next((a.index for a, b in zip(expected, found, strict=True) if (a.ids != b.ids).any()), None)


class Fp32Baseline:
    """Float32's own logits and generations of a source, had once and used for every variant.

    The logits are transformers' own; generations are made by this package's network, which saves their time.
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
        """The float32 graph, to be rewritten."""
        return Graph(self._traced.model.clone())

    @functools.cached_property
    def logits(self) -> list[Floats]:
        """Of each canvas's rows, [n, vocab]."""
        return [
            self.reference.logits(canvas.ids[None], np.ones((1, canvas.ids.size), bool))[0, canvas.rows]
            for canvas in self.masked
        ]

    def coverage(self) -> dict[str, Any] | None:
        """What the output vocabulary loses of the passages and their canvases; None where it is all."""
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
        """Of each question's answer."""
        forward = TorchForward(self.denoiser)
        return [trajectory(forward, self.source, prompt) for prompt in prompts(self.source)]

    def rows(self, forward: Forward, every: int = 1) -> dict[float, Rows]:
        """A model's passes against float32's, by ratio; over each canvas, or each `every`-th."""
        return passes(self.logits[::every], forward, self.masked[::every])

    def card(self, forward: Forward, name: str) -> dict[str, Any]:
        """The figures of a model's passes and generations.

        Args:
            forward: the model.
            name: the variant's, for errors.

        Raises:
            FidelityError: a logit is not finite.
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
