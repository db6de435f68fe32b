"""A question with a fixed set of answers: how it is put to the model, and what the model says to it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import permutations
from typing import Any, TypeAlias

from diffutron_ort.brief import brief
from diffutron_ort.errors import InputError, OptionError
from diffutron_ort.text.chat_template import composed, is_blank
from diffutron_ort.text.tokenizer import check_text

Messages: TypeAlias = Sequence[Mapping[str, str]]
Options: TypeAlias = Sequence[str] | Mapping[str, str | None]
"""Answers to choose from; or these and what each stands for, which is shown where they are listed."""

Order: TypeAlias = tuple[int, ...]

LISTED = "{options}"
"""Stands in a question where the options are to be listed."""

YES, NO = "evet", "hayır"
MOST_OPTIONS = 255
FEW = 3  # options of which all orders are asked for


class Question:
    """A question, its options, and the orders in which these are listed in it.

    Attributes:
        options: The answers to choose from.
        orders: The indices of the options in the order in which a prompt lists them; the first is as they were given.
        prompts: The question with the options listed, for each order.
    """

    def __init__(
        self, question: str | Messages, options: Options, *, debias: bool = False, separator: str = ", "
    ) -> None:
        """Set up the question.

        Args:
            question: A text or messages. `{options}` in it becomes the list of the options.
            options: At least one and at most `MOST_OPTIONS`; none blank, none twice. One with a description is listed
                as `option: description`.
            debias: Whether to ask in several orders: in all orders of up to three options, and of more options in
                each order that a rotation of the list makes, so that each option stands in each place once.
            separator: Stands between two options in the list.

        Raises:
            InputError: The options are not what they should be.
            OptionError: `debias` without a list in the question; or an argument is of the wrong type.
        """
        self.options = checked_options(options)
        _check_listing(debias, separator)
        if debias and _listed(question, "") == _listed(question, LISTED):
            raise OptionError(f"debias=True needs the list of the options in the question: write {LISTED} in its place")
        self.orders = orders(len(self.options)) if debias else [tuple(range(len(self.options)))]
        listed = _lines(self.options, options)
        self.prompts = [_listed(question, separator.join(listed[i] for i in order)) for order in self.orders]


def checked_questions(given: object) -> Mapping[str, Question]:
    """Return several questions by name.

    Raises:
        InputError: They are something else.
    """
    if not isinstance(given, Mapping) or not all(isinstance(one, Question) for one in given.values()):
        raise InputError(f"questions={brief(given)}: must be a dict with a Question for each name")
    return given


@contextmanager
def about(name: str) -> Iterator[None]:
    """Say in an InputError which of several questions it is about."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"question {brief(name)}: {error}") from error


def checked_options(options: Options, name: str = "options") -> tuple[str, ...]:
    """Return options that one can choose from.

    Raises:
        InputError: There are none or too many, or one of them is not a text, is blank, or is there twice.
    """
    if not isinstance(options, Sequence | Mapping) or isinstance(options, str | bytes | bytearray):
        raise InputError(f"{name}={brief(options)}: must be a list of texts")
    if not 1 <= len(options) <= MOST_OPTIONS:
        raise InputError(f"{name}: there are {len(options)}; give 1 to {MOST_OPTIONS}")
    seen: dict[str, int] = {}
    for i, option in enumerate(options):  # of a mapping, its keys
        check_text(option, f"{name}[{i}]")
        if is_blank(option):
            raise InputError(f"{name}[{i}] has no text: write an answer")
        before = seen.setdefault(composed(option.strip()), i)
        if before != i:
            raise InputError(
                f"{name}[{i}]={brief(option)} is the same answer as {name}[{before}]: leave one of them out"
            )
    return tuple(options)


def orders(count: int) -> list[Order]:
    """Return the orders in which so many options are listed: all of a few, else each rotation; the first as given."""
    if count <= FEW:
        return list(permutations(range(count)))
    return [tuple((shift + i) % count for i in range(count)) for shift in range(count)]


def _check_listing(debias: object, separator: object) -> None:
    if not isinstance(debias, bool):
        raise OptionError(f"debias={brief(debias)}: must be True or False")
    if not isinstance(separator, str):
        raise OptionError(f"separator={brief(separator)}: must be a string")


def _lines(names: Sequence[str], options: Options) -> list[str]:
    """Return what stands for each option where they are listed.

    Raises:
        InputError: A description is not a text.
    """
    if not isinstance(options, Mapping):
        return [*names]
    described = {name: text for name, text in options.items() if text is not None}
    for name, text in described.items():
        check_text(text, f"the description of {brief(name)}")
    return [f"{name}: {described[name]}" if name in described else name for name in names]


def _listed(question: str | Messages, options: str) -> str | Messages:
    """Return a question with the options in place of `LISTED`.

    Raises:
        InputError: It is neither a text nor messages.
    """
    if isinstance(question, str):
        return question.replace(LISTED, options)
    messages: Any = question
    if not isinstance(messages, Sequence) or not messages or not all(isinstance(one, Mapping) for one in messages):
        raise InputError(f"question={brief(question)}: must be a text or messages")
    return [{name: _in_text(value, options) for name, value in message.items()} for message in messages]


def _in_text(value: object, options: str) -> Any:
    """Return a value of a message with the options listed, if it is a text; whoever renders messages judges others."""
    return value.replace(LISTED, options) if isinstance(value, str) else value
