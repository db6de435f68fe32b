"""Prompts, messages and texts with masks, made into canvases; what cannot fit is refused before any work on it."""

import re
import sys
import warnings
from collections import abc
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import ContextError, DiffutronWarning, InputError
from diffutron_ort.sampler.canvas import Canvas, between
from diffutron_ort.text.chat_template import composed, is_blank, least_characters, render_chat
from diffutron_ort.text.infill import Draft
from diffutron_ort.text.tokenizer import MASK, Tokenizer, check_text
from diffutron_ort.types import Ids

Messages: TypeAlias = abc.Sequence[Mapping[str, str]]
Prompt: TypeAlias = str | Messages
"""What a model answers: a user's text, or messages."""

SUSPICIOUS = 16  # characters a token: texts with more are measured before they are worked on
LIKE_A_MASK = re.compile(r"[\[<{(] ?mask ?[\])}>]|_{3,}", re.IGNORECASE)


class Prompts:
    """Makes the canvases of one model."""

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer) -> None:
        self._bundle, self._tokenizer = bundle, tokenizer

    def canvas(
        self, prompt: Prompt, template: bool, config: GenerationConfig, index: int = 0, name: str = "the prompt"
    ) -> Canvas:
        """Return the canvas of a prompt, or of messages.

        Args:
            prompt: What a user says, or messages.
            template: Whether to put a text into the chat template.
            config: The options.
            index: Of the prompt in a list: it is added to the seed.
            name: What the prompt is called in errors.

        Raises:
            InputError: It is not a string or messages, is blank (with the template), or is too long for the context.
        """
        if not template:
            return self.raw(prompt, "", config, index, name)
        if is_chat(prompt):
            return self.chat(prompt, config, index)
        text = checked_text(prompt, name)
        if is_blank(text):
            raise InputError(f"{name} has no text: write a question")
        return self.chat([{"role": "user", "content": text}], config, index)

    def canvases(
        self, prompts: abc.Sequence[Prompt], single: bool, template: bool, config: GenerationConfig
    ) -> list[Canvas]:
        """Return the canvas of a `single` prompt, or those of a list; an error says which of the list it is about.

        Raises:
            InputError: As for `canvas`.
        """
        if single:
            return [self.canvas(prompts[0], template, config)]
        return [self._listed(prompt, template, config, i) for i, prompt in enumerate(prompts)]

    def _listed(self, prompt: Prompt, template: bool, config: GenerationConfig, index: int) -> Canvas:
        """Return the canvas of a prompt in a list."""
        name = f"prompt {index}"
        try:
            return self.canvas(prompt, template, config, index, name)
        except InputError as error:
            if str(error).startswith(name):
                raise
            raise type(error)(f"{name}: {error}") from error

    def chat(self, messages: Messages, config: GenerationConfig, index: int = 0) -> Canvas:
        """Return the canvas of messages.

        Raises:
            InputError: There is no message, one cannot be rendered, or all are too long for the model's context.
        """
        template = self._bundle.chat_template
        self._check_room(least_characters(messages, template), config.max_new_tokens)
        prompt = render_chat(messages, template)
        self._check_room(len(prompt), config.max_new_tokens)
        return self._prompt_canvas(prompt, config, index)

    def raw(self, prompt: object, suffix: object, config: GenerationConfig, index: int, name: str) -> Canvas:
        """Return the canvas of raw text, or of token ids, with the new tokens before a suffix.

        Raises:
            InputError: One of them is neither text nor token ids, or they are too long for the model's context.
        """
        before, after = self._ids(prompt, config, name), self._ids(suffix, config, "the suffix")
        return self._canvas(before, after, config, index)

    def draft(self, text: str, name: str) -> Draft:
        """Take a text with masks apart.

        Raises:
            InputError: It is not text, or is too long for the model's context.
        """
        stretches = self._tokenizer.stretches(text)
        self._check_room(sum(map(len, stretches)), masks=len(stretches) - 1)
        draft = Draft(*self._tokenizer.encode_masked(text))
        self._check_length(len(draft.ids), 0)
        _warn_of_form(text, name)
        if not draft.masks:
            _warn(f"{name} has no {MASK}, so there is nothing to fill in{_like_a_mask(text)}")
        return draft

    def drafts(self, texts: abc.Sequence[str], single: bool) -> list[Draft]:
        """Take a `single` text with masks apart, or those of a list; a warning says which of the list it is about.

        Raises:
            InputError: As for `draft`.
        """
        return [self.draft(text, "the text" if single else f"text {i}") for i, text in enumerate(texts)]

    def _prompt_canvas(self, prompt: str, config: GenerationConfig, index: int = 0) -> Canvas:
        return self._canvas(self._tokenizer.encode(prompt), [], config, index)

    def _canvas(
        self, before: abc.Sequence[int], after: abc.Sequence[int], config: GenerationConfig, index: int
    ) -> Canvas:
        """Return the canvas of tokens with the new ones between them, if they fit."""
        new, seed = config.max_new_tokens, (config.seed + index) % 2**64
        self._check_length(len(before) + len(after), new)
        return between(before, new, after, self._bundle.special.mask, seed)

    def _ids(self, text: object, config: GenerationConfig, name: str) -> abc.Sequence[int]:
        """Return the ids of raw text, or those that were given in its place."""
        if is_ids(text):
            return self._checked_ids(text, config, name)
        text = checked_text(text, name)
        self._check_room(len(text), config.max_new_tokens)
        _warn_of_form(text, name)
        return self._tokenizer.encode(text)

    def _checked_ids(self, ids: abc.Sequence[Any] | Ids, config: GenerationConfig, name: str) -> list[int]:
        self._check_length(len(ids), config.max_new_tokens)
        return vocabulary_ids(ids, self._bundle.vocab_size, name)

    def _check_room(self, characters: int, new: int = 0, masks: int = 0) -> None:
        """Raise ContextError for a text that cannot fit, by its length alone, before any work on it.

        Args:
            characters: Of the text, or fewer.
            new: Tokens that are to follow it.
            masks: Masks in the text.
        """
        if characters + masks > SUSPICIOUS * self._bundle.context_length:
            self._check_length(self._tokenizer.least_tokens(characters) + masks, new, "at least ")

    def _check_length(self, prompt: int, new: int, about: str = "") -> None:
        """Raise ContextError for more tokens than the model was trained with, before anything of that size is made."""
        context = self._bundle.context_length
        if prompt + new > context:
            length = f"{prompt} tokens of prompt and {new} new ones are {prompt + new}" if new else f"{prompt} tokens"
            remedy = "shorten the prompt, or lower max_new_tokens" if new else "shorten the text"
            raise ContextError(f"{about}{length}, the model's context is {context}: {remedy}")


def is_chat(prompt: object) -> TypeGuard[Messages]:
    """Return whether a prompt is messages."""
    return isinstance(prompt, abc.Sequence) and bool(prompt) and all(isinstance(item, Mapping) for item in prompt)


def is_list(given: object) -> TypeGuard[abc.Sequence[Any]]:
    """Return whether several texts were given: a list of texts or of token ids, not the ids of one text."""
    if not isinstance(given, abc.Sequence) or isinstance(given, str | bytes | bytearray):
        return False
    return not given or not isinstance(given[0], int | np.integer)


def vocabulary_ids(ids: abc.Sequence[Any] | Ids, size: int, name: str) -> list[int]:
    """Return token ids of a vocabulary of some size.

    Raises:
        InputError: One of them is not in it.
    """
    for token in ids:
        if not isinstance(token, int | np.integer) or isinstance(token, bool) or not 0 <= token < size:
            raise InputError(f"{name} holds {brief(token)}: token ids are integers from 0 to {size - 1}")
    return [int(token) for token in ids]


def is_ids(given: object) -> TypeGuard[abc.Sequence[Any] | Ids]:
    """Return whether `given` stands for token ids: a list or an array of anything but messages."""
    if isinstance(given, np.ndarray):
        return given.ndim == 1
    return isinstance(given, abc.Sequence) and not isinstance(given, str | bytes | bytearray) and not is_chat(given)


def checked_text(prompt: object, name: str) -> str:
    """Return a prompt that is a text.

    Raises:
        InputError: It is none, or cannot be encoded.
    """
    check_text(prompt, name)
    return str(prompt)


def checked_texts(given: object, name: str) -> abc.Sequence[str]:
    """Return one text or a list of texts as a list.

    Raises:
        InputError: It is neither, or one of them cannot be encoded.
    """
    texts = [given] if isinstance(given, str) else given
    if is_chat(given):
        raise InputError(f"{name}={brief(given)}: must be a string, or a list of at least one; give messages to chat")
    if not isinstance(texts, abc.Sequence) or isinstance(texts, bytes | bytearray) or not texts:
        raise InputError(f"{name}={brief(given)}: must be a string, or a list of at least one")
    for i, text in enumerate(texts):
        check_text(text, f"the {name}" if isinstance(given, str) else f"{name} {i}")
    return texts


def checked_prompts(given: object) -> abc.Sequence[Prompt]:
    """Return a list of prompts and messages.

    Raises:
        InputError: It is not one.
    """
    if not isinstance(given, abc.Sequence) or isinstance(given, bytes | bytearray) or not given:
        raise InputError(f"prompt={brief(given)}: must be a string, messages, or a list of at least one of these")
    return given


def _warn_of_form(text: str, name: str) -> None:
    """Warn about raw text that is not in NFC."""
    if composed(text) != text:
        _warn(
            f"{name} has letters that are written as several characters (it is not in NFC), which the model hardly "
            'knows: unicodedata.normalize("NFC", ...) joins them'
        )


def _like_a_mask(text: str) -> str:
    """Return a hint if a text has something that was probably meant as a mask."""
    found = LIKE_A_MASK.search(text)
    return f"; {brief(found[0])} is text: a mask is written {MASK}" if found else ""


def _warn(message: str) -> None:
    """Warn about the line outside this package that called it."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "diffutron_ort":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DiffutronWarning, stacklevel=level)
