"""Templates with slots, made ready to be filled."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.config import OPTION_NAMES, GenerationConfig
from diffutron_ort.errors import ContextError, InputError, OptionError
from diffutron_ort.prompts import Prompt, checked_text, is_chat
from diffutron_ort.slots import template
from diffutron_ort.slots.bounds import Bounds, checked
from diffutron_ort.slots.filling import Filling
from diffutron_ort.slots.preparing import Preparing
from diffutron_ort.slots.template import Template
from diffutron_ort.slots.vocabulary import Vocabulary
from diffutron_ort.text.chat_template import is_blank, render_chat
from diffutron_ort.text.tokenizer import Tokenizer

MEANINGFUL = frozenset({"steps", "temperature", "seed"})
"""The options of a generation that a template with slots heeds."""


class Templates:
    """Makes the templates of one model ready."""

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer) -> None:
        self._bundle, self._tokenizer = bundle, tokenizer

    def filling(self, given: object, slots: object, prompt: Prompt | None, config: GenerationConfig) -> Filling:
        """Return a template with what can stand in its places.

        Args:
            given: Text with named places, or an object that becomes JSON; or a template that has been taken apart.
            slots: The bounds of each, by name.
            prompt: A text or messages that it answers; None if it stands alone.
            config: The options.

        Raises:
            InputError: The template or the prompt is not what it should be, or too long for the context.
            OptionError: A bound is not allowed, or nothing keeps the bounds of a slot.
        """
        if not isinstance(slots, Mapping) or not (slots or isinstance(given, Template)):
            raise OptionError(f"slots={brief(slots)}: must be a dict with the bounds of each slot by its name")
        bounds = {name: checked(name, slots[name]) for name in slots}
        if isinstance(given, str):
            self._check_room(checked_text(given, "the template"))
        bare = frozenset(name for name, bound in bounds.items() if bound.is_bare)
        parsed = given if isinstance(given, Template) else template.parse(given, bare)
        _check_names(parsed, bounds)
        self._check_room(parsed.end.join(place.before for place in parsed.places))
        before, after = self._around(prompt)
        return self._preparing.filling(parsed, bounds, config, before, after)

    @cached_property
    def _preparing(self) -> Preparing:
        bundle, texts = self._bundle, self._tokenizer.plain_texts()
        if bundle.output_vocabulary is not None:
            texts = {token: texts[token] for token in bundle.output_vocabulary if token in texts}
        ends = {ids[0] for _, ids in bundle.stop_sequences if len(ids) == 1}
        vocabulary = Vocabulary({token: text for token, text in texts.items() if token not in ends}, bundle.vocab_size)
        return Preparing(self._tokenizer, vocabulary, bundle.special.mask, bundle.context_length)

    def _around(self, prompt: Prompt | None) -> tuple[str, str]:
        """Return the text before and after an answer to a prompt."""
        if prompt is None:
            return "", ""
        chat = self._bundle.chat_template
        messages = prompt if is_chat(prompt) else [{"role": "user", "content": self._question(prompt)}]
        return render_chat(messages, chat), chat["assistant"].partition("{content}")[2]

    def _question(self, prompt: object) -> str:
        text = checked_text(prompt, "the prompt")
        self._check_room(text)
        if is_blank(text):
            raise InputError("the prompt has no text: write a question, or leave it out")
        return text

    def _check_room(self, text: str) -> None:
        """Refuse a text that cannot fit, by its length alone, before any work on it."""
        context = self._bundle.context_length
        if len(text) > context and (least := self._tokenizer.least_tokens(len(text))) > context:
            raise ContextError(f"at least {least} tokens, the model's context is {context}: shorten the text")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of a generation that a template with slots would not heed.

    Raises:
        OptionError: There is one.
    """
    if useless := sorted((options.keys() & OPTION_NAMES) - MEANINGFUL):
        raise OptionError(f"{', '.join(useless)}: of no meaning for a template with slots; leave it out")


def _check_names(parsed: Template, bounds: Mapping[str, Bounds]) -> None:
    """Check that each place has a slot, and each slot a place."""
    places = parsed.names
    if missing := [name for name in places if name not in bounds]:
        raise OptionError(f"the place {{{{{missing[0]}}}}} has no slot: there are {', '.join(map(brief, bounds))}")
    if useless := [name for name in bounds if name not in places]:
        raise OptionError(f"slot {brief(useless[0])} has no place: the template has {', '.join(map(brief, places))}")
