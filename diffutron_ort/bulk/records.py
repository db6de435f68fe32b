"""Records: what one asks for, and what becomes of it when it is answered and when it fails.

A record is a JSON object, a row of a table, or whatever else has names and values. Nothing is lost: the values that
mean nothing here are in the answered record too.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from diffutron_ort.brief import brief
from diffutron_ort.completion import Completion
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import InputError
from diffutron_ort.prompts import Prompt, is_chat

PROMPT, MESSAGES, OPTIONS = "prompt", "messages", "options"
COMPLETION, FINISH_REASON, ERROR = "completion", "finish_reason", "error"

Record: TypeAlias = Mapping[str, Any]


class Request(NamedTuple):
    """What a record asks for.

    Attributes:
        prompt: A user's text, or messages.
        options: Fields of `GenerationConfig` for this record alone; they override those of the run.
    """

    prompt: Prompt
    options: Mapping[str, Any]


def requested(record: Record, column: str = PROMPT) -> Request:
    """Return what a record asks for.

    Args:
        record: Has the prompt as the value of `column`, or `messages`; it may have `options`. A value that is None
            counts as missing, as in a table, where every row has all columns.
        column: The name of the prompt.

    Raises:
        InputError: It has no prompt, two, or already a `completion`, or a value has the wrong type.
        OptionError: One of its options is unknown, or its value is not allowed.
    """
    prompts = [record[name] for name in (column, MESSAGES) if record.get(name) is not None]
    if not prompts:
        raise InputError(f"there is no prompt: give it as {column!r}, or give {MESSAGES!r}")
    if len(prompts) > 1 and column != MESSAGES:
        raise InputError(f"both {column!r} and {MESSAGES!r} are given: leave one of them out")
    if not (isinstance(prompts[0], str) or is_chat(prompts[0])):
        raise InputError(f"the prompt is {brief(prompts[0])}: must be a text, or a list of at least one message")
    if record.get(COMPLETION) is not None:
        raise InputError(f"there is already a {COMPLETION!r}, which the answer would replace: rename it")
    return Request(prompts[0], _options(record.get(OPTIONS)))


def answered(record: Record, completion: Completion) -> dict[str, Any]:
    """Return a record with its `completion`, the answer's text, and its `finish_reason`; without an earlier `error`."""
    kept = {name: value for name, value in record.items() if name != ERROR}
    return {**kept, COMPLETION: completion.text, FINISH_REASON: completion.finish_reason}


def failed(record: Record, error: Exception) -> dict[str, Any]:
    """Return a record that cannot be answered, with the message of the error as `error`."""
    return {**record, ERROR: str(error)}


def _options(given: object) -> Mapping[str, Any]:
    """Return the options of a record, each checked by itself."""
    if not isinstance(given, Mapping | None):
        raise InputError(f"the options are {brief(given)}: must be an object with options' names and values")
    options = {str(name): value for name, value in (given or {}).items() if value is not None}
    GenerationConfig().replace(**options)
    return options
