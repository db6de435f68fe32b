"""A conversation: its turns, and which of them the model still sees."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from diffutron_ort.errors import InputError


class Turn(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


class Conversation:
    """A system message and the turns that follow it.

    Attributes:
        system: What the model is told before all turns; empty for nothing.
        turns: All of them, oldest first.
        forgotten: How many of the oldest the model no longer sees, because its context has no room for them.
    """

    def __init__(self, system: str = "") -> None:
        self.system = system
        self.turns: list[Turn] = []
        self.forgotten = 0

    def messages(self, first: int = 0) -> list[dict[str, str]]:
        """Return the system message and the turns from number `first` on."""
        told = [_message("system", self.system)] if self.system else []
        for turn in self.turns[first:]:
            told += [_message("user", turn.question), _message("assistant", turn.answer)]
        return told

    def asking(self, question: str, first: int) -> list[dict[str, str]]:
        """Return the messages that ask a question after the turns from number `first` on."""
        return [*self.messages(first), _message("user", question)]

    def reset(self) -> None:
        """Forget all turns."""
        self.turns.clear()
        self.forgotten = 0

    def undo(self) -> Turn:
        """Remove the last turn and return it.

        Raises:
            InputError: There is none.
        """
        if not self.turns:
            raise InputError("there is no turn to undo")
        last = self.turns.pop()
        self.forgotten = min(self.forgotten, len(self.turns))
        return last

    def saved(self, name: str) -> str:
        """Return the content of a file of that name: the whole conversation, in the form that its ending says.

        Raises:
            InputError: The name has another ending.
        """
        ending = Path(name).suffix.lower()
        if ending not in FORMS:
            raise InputError(f"{name!r}: the name must end in {' or '.join(FORMS)}")
        return FORMS[ending](self)


def as_json(conversation: Conversation) -> str:
    """Return the messages as JSON."""
    return json.dumps(conversation.messages(), ensure_ascii=False, indent=2) + "\n"


def as_markdown(conversation: Conversation) -> str:
    """Return the messages as Markdown, each below the name of its role."""
    return "\n\n".join(f"**{each['role']}**\n\n{each['content']}" for each in conversation.messages()) + "\n"


FORMS: Mapping[str, Callable[[Conversation], str]] = MappingProxyType({".json": as_json, ".md": as_markdown})
"""The forms in which a conversation is saved, by the ending of the file's name."""


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
