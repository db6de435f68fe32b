"""A model, a conversation with it, and the options of its answers."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Protocol

from diffutron_ort.chat.conversation import Conversation, Turn
from diffutron_ort.completion import Completion, Tally
from diffutron_ort.config import GenerationConfig, preset_options
from diffutron_ort.errors import ContextError, InputError
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.sequence import LENGTH, Step


class Screen(Protocol):
    """Where a session shows what happens."""

    def shown(self, steps: Iterator[Step], model: Diffutron) -> Iterator[Step]:
        """Return the steps of an answer, which show themselves as they are taken."""

    def answered(self, question: str, completion: Completion) -> None:
        """Show an answer."""

    def failed(self, question: str, error: str) -> None:
        """Show why a question got no answer, or why a command did nothing."""

    def note(self, text: str) -> None:
        """Show what a command says, or a remark; it may have several lines."""


class Session:
    """A conversation with a model.

    Attributes:
        screen: Shows what happens.
        write: Writes a file, given its name and its content.
        conversation: The turns so far.
        preset: The preset whose options are below `options`; None for the model's own.
        options: Those that were set, as for `Diffutron.chat`.
    """

    def __init__(
        self,
        load: Callable[[], Diffutron],
        screen: Screen,
        write: Callable[[str, str], None],
        *,
        until: Callable[[Iterator[Step]], Iterator[Step]] = iter,
        system: str = "",
        preset: str | None = None,
        **options: Any,
    ) -> None:
        """Begin a conversation.

        Args:
            load: Returns the model, when it is first needed.
            screen: Shows what happens.
            write: Writes a file.
            until: Passes the steps of an answer on, and raises an exception to stop it.
            system: The system message; empty for none.
            preset: As for `Diffutron.chat`.
            **options: As for `Diffutron.chat`.
        """
        self._load, self._until = load, until
        self.screen, self.write = screen, write
        self.conversation = Conversation(system)
        self.preset, self.options = preset, options
        self._question, self._answered = "", False

    @cached_property
    def model(self) -> Diffutron:
        """The model; the first access waits until it is loaded."""
        return self._load()

    @property
    def config(self) -> GenerationConfig:
        """The options of the next answer."""
        return self.model.config(self.preset, **self.options)

    def ask(self, question: str) -> None:
        """Answer a question, and show and keep the turn. One that fails, or is stopped, leaves no turn.

        Raises:
            InputError: The question cannot be asked, or is too long for the context by itself.
            DiffutronError: As for `Diffutron.chat`, while the model runs.
        """
        self._question, self._answered = question, False
        tally = Tally()
        for step in self.screen.shown(self._until(self._begin(question)), self.model):
            tally.add(step)
        completion = tally.completion()
        self.conversation.turns.append(Turn(question, completion.text))
        self._answered = True
        self.screen.answered(question, completion)
        if not completion.text:
            self.screen.note("(the answer is empty)")
        elif completion.finish_reason == LENGTH:
            self.screen.note(f"(cut at max_new_tokens={self.config.max_new_tokens})")

    def ask_again(self) -> None:
        """Answer the last question again; if it has an answer, the new one takes its place.

        Raises:
            InputError: There is none, or as for `ask`.
            DiffutronError: As for `ask`.
        """
        if not self._question:
            raise InputError("there is no question to answer again")
        turns = self.conversation.turns
        replaced = [turns.pop()] if self._answered else []
        try:
            self.ask(self._question)
        except BaseException:
            turns += replaced
            self._answered = bool(replaced)
            raise

    def undo(self) -> Turn:
        """Remove the last turn and return it.

        Raises:
            InputError: There is none.
        """
        self._answered = False
        return self.conversation.undo()

    def reset(self) -> None:
        """Remove all turns."""
        self._answered = False
        self.conversation.reset()

    def set(self, **options: Any) -> None:
        """Set options.

        Raises:
            OptionError: One is unknown or not allowed; nothing is changed.
        """
        self._become(self.preset, self.options | options)

    def unset(self, name: str) -> None:
        """Give an option its value from the preset or the model again.

        Raises:
            OptionError: There is no such option, or the others do not go with that value.
        """
        GenerationConfig().replace(**{name: getattr(GenerationConfig(), name, None)})
        self._become(self.preset, {key: value for key, value in self.options.items() if key != name})

    def start_from(self, preset: str) -> None:
        """Take the options of a preset, in place of any that were set.

        Raises:
            OptionError: There is no such preset, or other options do not go with it.
        """
        replaced = preset_options(preset)
        self._become(preset, {key: value for key, value in self.options.items() if key not in replaced})

    def _become(self, preset: str | None, options: dict[str, Any]) -> None:
        self.model.config(preset, **options)
        self.preset, self.options = preset, options

    def _begin(self, question: str) -> Iterator[Step]:
        """Return the steps that answer a question after as many of the last turns as fit into the context."""
        talk = self.conversation
        for first in range(talk.forgotten, len(talk.turns) + 1):
            try:
                steps = self.model.chat(talk.asking(question, first), stream=True, preset=self.preset, **self.options)
            except ContextError:
                if first == len(talk.turns):
                    raise
            else:
                self._forget(first - talk.forgotten)
                return steps
        raise AssertionError("the last round returns or raises")

    def _forget(self, count: int) -> None:
        """Leave out that many more of the oldest turns, and say so."""
        self.conversation.forgotten += count
        if count:
            turns = "turn was" if count == 1 else f"{count} turns were"
            self.screen.note(f"(the oldest {turns} dropped: the model's context has no more room)")
