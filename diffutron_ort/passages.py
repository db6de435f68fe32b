"""Texts and their contexts, made into passages to be scored."""

from collections import abc
from typing import Any

import numpy as np

from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.choosing.question import Question
from diffutron_ort.errors import ContextError, InputError
from diffutron_ort.prompts import SUSPICIOUS, checked_text, is_chat, is_ids, is_list, vocabulary_ids
from diffutron_ort.scoring.passage import Passage, split
from diffutron_ort.text.chat_template import (
    MOST_COMPOSED,
    answer_end,
    composed,
    is_blank,
    least_characters,
    render_chat,
)
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.text.words import word_numbers


class Passages:
    """Makes the passages of one model."""

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer) -> None:
        self._bundle, self._tokenizer = bundle, tokenizer

    def of_texts(self, text: object, context: object, template: bool, seed: int) -> list[Passage]:
        """Return the passage of a text after its context, or one for each of a list.

        Args:
            text: A text or its token ids, or a list of these.
            context: What stands before it, for all texts or for each of a list.
            template: As for `passage`.
            seed: Of the masks that are drawn for the first; text i of a list has `seed` + i.

        Raises:
            InputError: As for `passage`; or there are several contexts, but not as many as texts.
        """
        if not is_list(text):
            return [self.passage(text, context, template, seed)]
        pairs = zip(text, _contexts(context, len(text)), strict=True)
        return [
            self.passage(item, before, template, (seed + i) % 2**64, f"text {i}")
            for i, (item, before) in enumerate(pairs)
        ]

    def of_options(self, question: Question, template: bool, seed: int) -> list[Passage]:
        """Return the passages of a question's options: each after the first of its prompts, then each after the next.

        Arguments are those of `whole`.

        Raises:
            InputError: As for `whole`.
        """
        return [
            self.whole(option, prompt, template, seed, f"options[{i}]")
            for prompt in question.prompts
            for i, option in enumerate(question.options)
        ]

    def passage(self, text: object, context: object, template: bool, seed: int = 0, name: str = "the text") -> Passage:
        """Return the passage of a text after its context.

        Args:
            text: What is scored, or its token ids.
            context: What stands before it, or its token ids.
            template: Whether the context is a user's prompt or messages, and the text the whole answer.
            seed: Of the masks that are drawn for it.
            name: What the text is called in errors.

        Raises:
            InputError: One of them is not what it should be, or the context cannot be put into the chat template.
        """
        before = self._rendered(context) if template else context
        if is_ids(text) or is_ids(before):
            context_ids, ids = self._ids(before, "the context"), self._ids(text, name)
            size = 0 if is_ids(text) else len(checked_text(text, name).encode())
            return self._numbered([*context_ids, *ids], len(context_ids), size, seed)
        written = checked_text(text, name)
        whole = self._closed(written) if template else written
        return self._joined(checked_text(before, "the context"), whole, len(written.encode()), seed)

    def whole(self, text: object, context: object, template: bool, seed: int = 0, name: str = "the text") -> Passage:
        """Return the passage of a text after its context, which the model must see at once.

        Arguments are those of `passage`.

        Raises:
            InputError: As for `passage`.
            ContextError: They are too long for the model's context.
        """
        most = self._bundle.context_length
        if (least := self._least_tokens(text, context, template)) > most:
            raise ContextError(f"at least {least} tokens, the model's context is {most}: shorten the prompt or {name}")
        passage = self.passage(text, context, template, seed, name)
        if (length := len(passage.ids)) > most:
            raise ContextError(
                f"{passage.start} tokens of prompt and {length - passage.start} of {name} are {length}, the model's "
                f"context is {most}: shorten one of them"
            )
        return passage

    def _least_tokens(self, text: object, context: object, template: bool) -> int:
        """Return a lower bound for the tokens of a text and its context, without encoding them; 0 for short ones."""
        before, after = (len(given) if isinstance(given, str) else 0 for given in (context, text))
        if template:
            messages: Any = context if is_chat(context) else [{"role": "user", "content": context}]
            before = least_characters(messages, self._bundle.chat_template)
        after //= MOST_COMPOSED
        is_long = before + after > SUSPICIOUS * self._bundle.context_length
        return self._tokenizer.least_tokens(before + after) if is_long else 0

    def _rendered(self, context: object) -> str:
        """Return a prompt or messages in the chat template, up to where the answer begins."""
        if is_chat(context):
            return render_chat(context, self._bundle.chat_template)
        content = checked_text(context, "the context")
        if is_blank(content):
            raise InputError("the context has no text: write a question, or leave the chat template out")
        return render_chat([{"role": "user", "content": content}], self._bundle.chat_template)

    def _closed(self, answer: str) -> str:
        """Return an answer with what follows it in the chat template."""
        return composed(answer.strip()) + answer_end(self._bundle.chat_template)

    def _joined(self, context: str, text: str, size: int, seed: int) -> Passage:
        """Return the passage of two texts, which are encoded as one, as in training."""
        whole = self._tokenizer.encode(context + text)
        start, joined = split(self._tokenizer.encode(context), whole)
        return self._numbered(whole, start, size, seed, joined)

    def _ids(self, text: object, name: str) -> abc.Sequence[int]:
        """Return the ids of a text, or those that were given in its place."""
        if is_ids(text):
            return vocabulary_ids(text, self._bundle.vocab_size, name)
        return self._tokenizer.encode(checked_text(text, name))

    def _numbered(self, ids: abc.Sequence[int], start: int, size: int, seed: int, joined: bool = False) -> Passage:
        words = word_numbers([self._tokenizer.piece(token) for token in ids])
        return Passage(np.array(ids, np.int64), start, words, size, joined, seed)


def _contexts(context: object, count: int) -> abc.Sequence[Any]:
    """Return the context of each of `count` texts.

    Raises:
        InputError: Several contexts were given, but not as many.
    """
    several: abc.Sequence[Any] = context if is_list(context) and context and not is_chat(context) else [context] * count
    if len(several) != count:
        raise InputError(f"there are {len(several)} contexts for {count} texts: give one for all, or one for each")
    return several
