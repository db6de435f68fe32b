"""Fill a template's slots from left to right: find out the length of each, then write it; or choose its option."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import ContextError
from diffutron_ort.runtime.contract import Forward, PassInput, Predictions
from diffutron_ort.scoring.work import Work, part
from diffutron_ort.slots.choosing import likelihoods
from diffutron_ort.slots.layout import Layout, masks
from diffutron_ort.slots.length import by_confidence, by_end
from diffutron_ort.slots.menu import UNLIKELY, Menu
from diffutron_ort.slots.reach import Reach
from diffutron_ort.slots.template import Template
from diffutron_ort.slots.writing import Writing, drawn
from diffutron_ort.types import Ids


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


class Option(NamedTuple):
    """A value that a slot can have.

    Attributes:
        value: Its text.
        text: The same as the template writes it.
        ids: int64 [n], its tokens.
    """

    value: str
    text: str
    ids: Ids


class Open(NamedTuple):
    """A slot whose value the model writes.

    Attributes:
        menu: What it can hold.
        spaced: Whether its first token begins with a space that is none of the value.
        least: The fewest tokens, besides one that is this space alone.
        most: The most.
    """

    menu: Menu
    spaced: bool
    least: int
    most: int

    def most_passes(self, batch_invariant: bool) -> int:
        """Return the most passes that it can take: for its length, and two for each token."""
        most = self.most + self.spaced
        return (1 if batch_invariant else most) + 2 * most

    def lengths(self, room: int) -> dict[int, Reach]:
        """Return what is allowed at each possible number of tokens up to `room`, by that number."""
        most = min(self.most + self.spaced, room)
        found = {length: self._reach(length) for length in range(self.least, most + 1)}
        return {length: reach for length, reach in found.items() if reach.is_possible}

    def _reach(self, length: int) -> Reach:
        lone = {self.least: False, self.most + 1: True}.get(length) if self.spaced else None
        return Reach(self.menu.table, length, spaced=self.spaced, lone=lone)


class Choice(NamedTuple):
    """A slot that has one of several values.

    Attributes:
        options: The values.
    """

    options: Sequence[Option]

    def most_passes(self, batch_invariant: bool) -> int:
        """Return the most passes that it can take: one for each token of the longest option, or of all."""
        lengths = [len(option.ids) for option in self.options]
        return max(lengths) * (1 + len(lengths) // 8) if batch_invariant else sum(lengths)


class Value(NamedTuple):
    """What a slot has come to.

    Attributes:
        value: Its text.
        text: The same as the template writes it.
        ids: Its tokens.
        logprob: The logarithm of its probability.
    """

    value: str
    text: str
    ids: Ids
    logprob: float


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
            self.layout.values[number] = masks(_fewest(slot, self.context), self.mask)
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
            fill = (
                self._chosen(counted, number, slot)
                if isinstance(slot, Choice)
                else self._written(counted, number, slot)
            )
            value = yield from part(fill, number / len(self.slots), (number + 1) / len(self.slots))
            self.layout.values[number] = value.ids
            values.append(value)
        return self._filled(values, counted.passes)

    def _written(self, forward: Forward, number: int, slot: Open) -> Work[Value]:
        """Find out the length of a slot, and write it."""
        room = self.context - self.layout.length + len(self.layout.values[number])
        lengths = slot.lengths(room)
        length = min(lengths)
        if len(lengths) > 1:
            length = yield from part(self._length(forward, number, slot, lengths), 0, 0.5)
        writing = Writing(slot.menu, lengths[length], number, self.config)
        before, after = self.layout.around(number)
        tokens = yield from part(writing.write(forward, before, after, self.mask), 0.5, 1)
        text = "".join(slot.menu.table.texts[token] for token in tokens)[slot.spaced :]
        return Value(text, text, np.array(tokens, np.int64), writing.logprob)

    def _length(self, forward: Forward, number: int, slot: Open, lengths: Mapping[int, Reach]) -> Work[int]:
        before, _ = self.layout.around(number)
        ends = self.answers and self.layout.follows(number) is not None
        if ends and len(before) + max(lengths) < self.context:
            return by_end(forward, self.layout, number, slot.menu, lengths, self.context, self.mask)
        return by_confidence(forward, self.layout, number, slot.menu, lengths, self.mask)

    def _chosen(self, forward: Forward, number: int, slot: Choice) -> Work[Value]:
        """Choose among the options that fit into the context."""
        room = self.context - self.layout.length + len(self.layout.values[number])
        options = [option for option in slot.options if len(option.ids) <= room]
        logprobs = np.zeros(1)
        before, after = self.layout.around(number)
        if len(options) > 1:
            ids = [option.ids for option in options]
            logprobs = np.maximum((yield from likelihoods(forward, ids, before, after, self.mask)), UNLIKELY * 100)
        logprobs = logprobs - np.log(np.exp(logprobs - logprobs.max()).sum()) - logprobs.max()
        order = np.argsort(-logprobs, kind="stable")
        choice = order[drawn(logprobs[order], self.config, number, 0, len(before))]
        value, text, tokens = options[choice]
        return Value(value, text, tokens, float(logprobs[choice]))

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


def _fewest(slot: Open | Choice, room: int) -> int:
    """Return the fewest tokens of a slot."""
    if isinstance(slot, Choice):
        return min(len(option.ids) for option in slot.options)
    return min(slot.lengths(room), default=room + 1)
