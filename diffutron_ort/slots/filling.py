"""Fill a template's slots from left to right: find out the length of each, then write it; or choose its option."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import ContextError
from diffutron_ort.runtime.contract import Forward, PassInput, Predictions
from diffutron_ort.scoring.work import Work, part
from diffutron_ort.slots.choosing import likelihoods
from diffutron_ort.slots.kinds import Choice, Gap, Open, Value
from diffutron_ort.slots.layout import Layout, masks
from diffutron_ort.slots.length import by_confidence, by_end
from diffutron_ort.slots.menu import UNLIKELY
from diffutron_ort.slots.reach import Reach
from diffutron_ort.slots.template import MOST_PLACES, Template
from diffutron_ort.slots.writing import Writing, drawn


@dataclass(frozen=True)
class Filled:
    """A template with values in its slots.

    Attributes:
        text: The whole text.
        values: The text of each slot's value, without what JSON adds to it.
        probabilities: For each slot, how probable its value is among those that are allowed: of an option, its share
            of the likelihood of all; otherwise the product of the probabilities that its tokens had when they were
            committed, each among the tokens that were allowed at its place.
        data: What the text says as JSON; None if the template is no JSON object.
        prompt_tokens: Tokens that were given before the template, the chat template included.
        completion_tokens: Tokens of the text.
        passes: Passes of the model.
    """

    text: str
    values: Mapping[str, str]
    probabilities: Mapping[str, float]
    data: Any
    prompt_tokens: int = field(repr=False)
    completion_tokens: int = field(repr=False)
    passes: int = field(repr=False)

    def __str__(self) -> str:
        """Return the text."""
        return self.text


class Counted:
    """A model that counts its passes."""

    def __init__(self, forward: Forward) -> None:
        self._forward, self.passes = forward, 0

    @property
    def batch_invariant(self) -> bool:
        """Whether sequences can share a pass."""
        return self._forward.batch_invariant

    def __call__(self, given: PassInput, /) -> Predictions:
        """Return what the model predicts."""
        self.passes += 1
        return self._forward(given)


@dataclass(eq=False)
class Filling:
    """A template on its way to a text.

    Attributes:
        template: The template.
        layout: Its tokens.
        slots: What can stand in each place, in order.
        config: The options: `steps`, `temperature` and `seed`.
        mask: The id of `<mask>`.
        context: The most tokens that the model sees.
        prompt_tokens: Tokens before the template.
        answers: Whether the template is the answer to a prompt.
    """

    template: Template
    layout: Layout
    slots: Sequence[Open | Choice]
    config: GenerationConfig
    mask: int
    context: int
    prompt_tokens: int = 0
    answers: bool = False

    def __post_init__(self) -> None:
        """Put as few masks as possible into each place.

        Raises:
            ContextError: Even so, the template does not fit.
        """
        for number, slot in enumerate(self.slots):
            fewest = slot.fewest(self.context)
            self.layout.values[number] = masks(self.context + 1 if fewest is None else fewest, self.mask)
        if self.layout.length > self.context:
            raise ContextError(
                f"the template needs at least {self.layout.length} tokens with its prompt, the model's context is "
                f"{self.context}: shorten it, or give it fewer slots"
            )

    def most_passes(self, batch_invariant: bool) -> int:
        """Return the most passes that it can take, if sequences can share one (`batch_invariant`) or not."""
        return sum(slot.most_passes(batch_invariant) for slot in self.slots)

    def work(self, forward: Forward) -> Work[Filled]:
        """Return the filled template.

        Raises:
            DiffutronError: As for `probed`.
        """
        counted = Counted(forward)
        values: list[Value] = []
        for number, slot in enumerate(self.slots):
            work = self._value(counted, self.layout.gap(number), number, slot)
            value = yield from part(work, number / len(self.slots), (number + 1) / len(self.slots))
            self.layout.values[number] = value.ids
            values.append(value)
        return self._filled(values, counted.passes)

    def _value(self, forward: Forward, gap: Gap, number: int, slot: Open | Choice) -> Work[Value]:
        """Return what a slot comes to."""
        if isinstance(slot, Choice):
            return self._chosen(forward, gap, number, slot)
        return self._written(forward, gap, number, slot)

    def _written(self, forward: Forward, gap: Gap, number: int, slot: Open) -> Work[Value]:
        """Find out the length of a slot, and write it."""
        lengths = slot.lengths(gap.room(self.context))
        length = min(lengths)
        if len(lengths) > 1:
            length = yield from part(self._length(forward, gap, slot, lengths), 0, 0.5)
        writing = Writing(slot.menu, lengths[length], number, self.config)
        tokens = yield from part(writing.write(forward, gap.before, gap.after, self.mask), 0.5, 1)
        text = "".join(slot.menu.table.texts[token] for token in tokens)[slot.spaced :]
        return Value(text, text, np.array(tokens, np.int64), writing.logprob)

    def _length(self, forward: Forward, gap: Gap, slot: Open, lengths: Mapping[int, Reach]) -> Work[int]:
        if self._ends(gap) and len(gap.before) + max(lengths) < self.context:
            return by_end(forward, gap, slot.menu, lengths, self.context, self.mask)
        return by_confidence(forward, gap, slot.menu, lengths, self.mask)

    def _ends(self, gap: Gap) -> bool:
        """Return whether the model can tell where a value ends by what follows it: in answers, it has learnt that."""
        return self.answers and gap.follows is not None

    def _chosen(self, forward: Forward, gap: Gap, number: int, slot: Choice) -> Work[Value]:
        """Choose among the values of a slot."""
        values: list[Value] = yield from part(self._candidates(forward, gap, number, slot), 0, 0.5)
        logprobs = np.zeros(1)
        if len(values) > 1:
            by_end = bool(slot.written) and self._ends(gap)
            compared = likelihoods(forward, [value.ids for value in values], gap, self.mask, by_end=by_end)
            logprobs = np.maximum((yield from part(compared, 0.5, 1)), UNLIKELY * 100)
        logprobs = logprobs - np.log(np.exp(logprobs - logprobs.max()).sum()) - logprobs.max()
        order = np.argsort(-logprobs, kind="stable")
        block = number + MOST_PLACES * bool(slot.written)  # apart from the uniforms that have written them
        choice = order[drawn(logprobs[order], self.config, block, 0, len(gap.before))]
        value, text, ids, logprob = values[choice]
        return Value(value, text, ids, logprob + float(logprobs[choice]))

    def _candidates(self, forward: Forward, gap: Gap, number: int, slot: Choice) -> Work[list[Value]]:
        """Return the different values of a slot that fit into the context, some of which are written first."""
        room = gap.room(self.context)
        found = [Value(*option, 0.0) for option in slot.options if len(option.ids) <= room]
        written = [one for one in slot.written if one.fewest(room) is not None]
        for index, one in enumerate(written):
            work = self._quoted(forward, gap, number, one)
            found.append((yield from part(work, index / len(written), (index + 1) / len(written))))
        return list({value.text: value for value in found}.values())

    def _quoted(self, forward: Forward, gap: Gap, number: int, slot: Open) -> Work[Value]:
        """Write a value between its quotes, if it has any."""
        if slot.quotes is None:
            value: Value = yield from self._written(forward, gap, number, slot)
            return value
        inner: Value = yield from self._written(forward, gap.within(slot.quotes), number, slot)
        ids = np.concatenate([slot.quotes.opening, inner.ids, slot.quotes.closing])
        return Value(inner.value, f'"{inner.text}"', ids, inner.logprob)

    def _filled(self, values: Sequence[Value], passes: int) -> Filled:
        names = self.template.names
        text = self.template.filled({name: value.text for name, value in zip(names, values, strict=True)})
        return Filled(
            text=text,
            values={name: value.value for name, value in zip(names, values, strict=True)},
            probabilities={name: float(np.exp(value.logprob)) for name, value in zip(names, values, strict=True)},
            data=json.loads(text) if self.template.is_json else None,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.layout.length - self.prompt_tokens,
            passes=passes,
        )
