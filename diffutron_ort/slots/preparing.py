"""Make a template ready to be filled: its tokens, and for each place what can stand there."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from diffutron_ort.brief import brief
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import OptionError
from diffutron_ort.slots.bounds import MOST_TOKENS, Bounds, Value
from diffutron_ort.slots.filling import Filling
from diffutron_ort.slots.kinds import Choice, Open, Option, Quotes
from diffutron_ort.slots.layout import Layout, Stretch
from diffutron_ort.slots.menu import Menu
from diffutron_ort.slots.template import Place, Template
from diffutron_ort.slots.vocabulary import Rules, Vocabulary
from diffutron_ort.text.tokenizer import Tokenizer


class Preparing:
    """Makes templates ready, for one model."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: Vocabulary, mask: int, context: int) -> None:
        self._tokenizer, self._vocabulary, self._mask, self._context = tokenizer, vocabulary, mask, context

    def filling(
        self, template: Template, bounds: Mapping[str, Bounds], config: GenerationConfig, before: str, after: str
    ) -> Filling:
        """Return a template ready to be filled.

        Args:
            template: The template.
            bounds: Of each of its places, by name.
            config: The options.
            before: The text before it: a prompt in the chat template; or nothing.
            after: The text after it.

        Raises:
            InputError: A text cannot be encoded.
            ContextError: It cannot fit into the model's context.
            OptionError: Nothing keeps the bounds of a slot.
        """
        layout = Layout(template, self._tokenizer, before, after)
        slots = []
        for place, stretch in zip(template.places, layout.stretches, strict=True):
            try:
                slots.append(self._slot(place, stretch, bounds[place.name], template.is_json))
            except OptionError as error:
                raise OptionError(f"slot {brief(place.name)}: {error}") from error
        around = len(self._tokenizer.encode(before)) + len(self._tokenizer.encode(after))
        return Filling(template, layout, slots, config, self._mask, self._context, around, answers=bool(before))

    def _slot(self, place: Place, stretch: Stretch, bounds: Bounds, is_json: bool) -> Open | Choice:
        is_bare = is_json and not place.is_quoted
        if bounds.any_of:
            return self._any_of(place, stretch, bounds.any_of, is_bare)
        if bounds.options:
            return Choice(self._options(place, stretch, bounds, is_bare))
        if is_bare and not bounds.is_bare:
            raise OptionError(
                f"pattern={brief(bounds.pattern)}: outside of quotes, JSON takes only integer, number, or options"
            )
        return self._open(bounds, place.is_quoted, stretch.spaced)

    def _any_of(self, place: Place, stretch: Stretch, ways: Sequence[Bounds], is_bare: bool) -> Choice:
        """Return the slot whose value keeps any one of several bounds."""
        options: list[Option] = []
        written: list[Open] = []
        for way in ways:
            if way.options:
                options += self._options(place, stretch, way, is_bare)
            elif is_bare and not way.is_bare:
                written.append(self._open(way, is_quoted=True, spaced=False, quotes=self._quotes(stretch)))
            else:
                written.append(self._open(way, place.is_quoted, stretch.spaced))
        return Choice(options, written)

    def _quotes(self, stretch: Stretch) -> Quotes:
        """Return the quotes of a value in a place that has none."""
        opening, closing = stretch.value_ids('"', self._tokenizer), self._tokenizer.encode_after('"')
        return Quotes(np.array(opening, np.int64), np.array(closing, np.int64))

    def _open(self, bounds: Bounds, is_quoted: bool, spaced: bool, quotes: Quotes | None = None) -> Open:
        """Return a slot that the model writes."""
        rules = Rules(bounds.expression, bounds.least_characters, bounds.most_characters, is_quoted)
        slot = Open(Menu(self._vocabulary.table(rules)), spaced, bounds.least, bounds.most_tokens, quotes)
        if not slot.possible(MOST_TOKENS + 1):
            raise OptionError(
                f"no text of {slot.least} to {slot.most} tokens of this model keeps its bounds: allow another number "
                "of tokens or characters, or another pattern"
            )
        return slot

    def _options(self, place: Place, stretch: Stretch, bounds: Bounds, is_bare: bool) -> list[Option]:
        """Return the options of a slot whose numbers of tokens are allowed."""
        options = [self._option(option, place, stretch, is_bare) for option in bounds.options]
        most = self._context if bounds.most is None else bounds.most
        fitting = [option for option in options if bounds.least <= len(option.ids) <= most]
        if not fitting:
            raise OptionError(f"none of its options has {bounds.least} to {most} tokens: allow another number")
        return fitting

    def _option(self, option: Value, place: Place, stretch: Stretch, is_bare: bool) -> Option:
        """Return an option as the template writes it."""
        written = json.dumps(option, ensure_ascii=False)
        if not is_bare:
            if not isinstance(option, str):
                raise OptionError(f"the option {brief(option)} is no text: it can stand in JSON, outside of quotes")
            written = written[1:-1] if place.is_quoted else option
        ids = np.array(stretch.value_ids(written, self._tokenizer), np.int64)
        return Option(option if isinstance(option, str) else written, written, ids)
