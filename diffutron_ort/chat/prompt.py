"""A line editor for conversations, by prompt_toolkit: several lines, history, completion of commands."""

from collections.abc import Iterable, Iterator
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History as Base
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from diffutron_ort.chat.commands import completions, is_command
from diffutron_ort.chat.echo import kept
from diffutron_ort.chat.history import History

PROMPT = FormattedText([("bold ansigreen", "> ")])
CONTINUED = FormattedText([("ansigreen", ". ")])
MENU = 6  # lines that are made free for completions, while a command is typed


class Prompt:
    """Asks the user at a terminal."""

    def __init__(self, history: History, terminal: TextIO) -> None:
        """Set the editor up.

        Args:
            history: What was typed before.
            terminal: Where the editor draws.
        """
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            multiline=True,
            prompt_continuation=CONTINUED,
            key_bindings=_keys(),
            history=_History(history),
            completer=_Completer(),
            complete_while_typing=Condition(lambda: is_command(self._session.default_buffer.text)),
            reserve_space_for_menu=MENU,
            enable_suspend=True,
            output=create_output(terminal),
        )

    def __call__(self) -> str:
        """Return what the user says; what he gives up with Ctrl-C is empty.

        Raises:
            EOFError: He pressed Ctrl-D.
            KeyboardInterrupt: He pressed Ctrl-C, and has typed nothing.
        """
        try:
            with kept():  # a signal that ends the program within the editor can find no one to restore them
                return self._session.prompt()
        except KeyboardInterrupt:
            if self._session.default_buffer.text:
                return ""
            raise


class _Completer(Completer):
    """Completes commands and their arguments."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        """Yield what the text before the cursor can become."""
        for text, replaced, meaning in completions(document.text_before_cursor):
            yield Completion(text, -replaced, display_meta=meaning)


class _History(Base):
    """A history in our file."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._kept = history

    def load_history_strings(self) -> Iterator[str]:
        """Yield the entries, newest first."""
        return reversed(self._kept.entries())

    def store_string(self, string: str) -> None:
        """Keep an entry."""
        self._kept.add(string)


def _keys() -> KeyBindings:
    """Return the keys that end and divide lines: Enter, and Alt-Enter."""
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
