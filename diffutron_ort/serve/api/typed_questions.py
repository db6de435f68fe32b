"""How the typed questions of POST /v1/systemone are put to the model."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from diffutron_ort.choosing.question import LISTED, NO, YES, orders
from diffutron_ort.errors import InputError
from diffutron_ort.model import Diffutron
from diffutron_ort.serve.api.judging import end_tokens, token_count
from diffutron_ort.serve.api.requests import (
    ChoiceQuestion,
    Content,
    ScaleQuestion,
    TypedQuestion,
    YesNoCriteria,
    YesNoQuestion,
)


class Put(NamedTuple):
    """A typed question, as it is put to the model.

    Attributes:
        prompt: A user's message.
        options: The answers, and what each stands for.
        debias: Whether it is asked in several orders.
    """

    prompt: str
    options: Mapping[str, str | None]
    debias: bool

    @property
    def texts(self) -> str:
        """All that the client has written."""
        return "\n".join([self.prompt, *self.options, *(text for text in self.options.values() if text)])

    def most_passes(self, model: Diffutron) -> int:
        """Return the number of passes that it can take at most: those of a model that gives each canvas its own."""
        count = len(self.options)
        longest = max(token_count(model, option) for option in self.options) + end_tokens(model)
        return longest * count * (len(orders(count)) if self.debias else 1)


def put(state: Content, question: TypedQuestion, debias: bool) -> Put:
    """Return how a question about a state is put: the state, what is asked, and the answers, each on its line.

    Raises:
        InputError: A level of a scale is there twice, or a text holds what stands for the list of the answers.
    """
    asked = "" if question.instructions is None else f"{_shown(question.instructions)}\n"
    prompt = f"{_shown(state)}\n\n{asked}- {LISTED}"
    return Put(prompt, _options(question), debias and not isinstance(question, ScaleQuestion))


def _options(question: TypedQuestion) -> Mapping[str, str | None]:
    """Return the answers to a question, and what each stands for."""
    match question:
        case YesNoQuestion():
            criteria = question.criteria or YesNoCriteria()
            return {YES: _described(criteria.yes), NO: _described(criteria.no)}
        case ChoiceQuestion():
            return {name: _described(criterion) for name, criterion in question.criteria.items()}
        case ScaleQuestion():
            return dict.fromkeys(_levels(question))


def _levels(question: ScaleQuestion) -> list[str]:
    """Return the levels of a scale as texts.

    Raises:
        InputError: Two are the same.
    """
    levels = [_shown(level) for level in question.criteria]
    if len(set(levels)) < len(levels):
        raise InputError("criteria of a score has a level twice: each must be another text")
    return levels


def _described(criterion: Content | None) -> str | None:
    return None if criterion is None else _shown(criterion)


def _shown(content: Content) -> str:
    """Return content as text: a text as it is, anything else as JSON.

    Raises:
        InputError: It holds what stands for the list of the answers.
    """
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    if LISTED in text:
        raise InputError(f"{LISTED} stands for the list of the answers: take it out of state and questions")
    return text
