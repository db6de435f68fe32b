"""The model as its users see it: text in, text out."""

import ctypes
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from diffutron_ort.brief import brief
from diffutron_ort.bundle.load import load_with_tokenizer
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.config import GenerationConfig, preset_options
from diffutron_ort.errors import ContextError, DiffutronWarning, InputError, OptionError
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.runtime.session import Session, import_onnxruntime
from diffutron_ort.sampler.canvas import Canvas, Span, for_generation, for_infilling
from diffutron_ort.sampler.engine import Step, denoise
from diffutron_ort.text.chat_template import composed, is_blank, least_characters, render_chat
from diffutron_ort.text.stopping import StopRule
from diffutron_ort.text.tokenizer import MASK, Tokenizer, check_text
from diffutron_ort.types import Ids

First = TypeVar("First")
Second = TypeVar("Second")

BATCH_SIZE = 8
# Seconds until ONNX Runtime, opening a graph, lets go of the interpreter; tokenizers holds it to the end.
HEAD_START = 0.03
FILL_IGNORES = ("max_new_tokens", "stop", "early_end")
SUSPICIOUS = 16  # characters a token: texts with more are measured before they are worked on
LIKE_A_MASK = re.compile(r"[\[<{(] ?mask ?[\])}>]|_{3,}", re.IGNORECASE)


class Diffutron:
    """A masked-diffusion language model: a bundle's tokenizer and graph, and the sampler.

    Attributes:
        bundle: Where it comes from.
        tokenizer: Text to ids and back.
        forward: The running graph.
    """

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer, forward: Forward) -> None:
        self.bundle = bundle
        self.tokenizer = tokenizer
        self.forward = forward

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        variant: str | None = None,
        providers: Sequence[str] | None = None,
        revision: str | None = None,
        threads: int | None = None,
        spin: bool = True,
    ) -> Self:
        """Load a model.

        Args:
            model: A bundle's folder, or a hub id such as `owner/name`; None is the embedded demonstration.
            variant: Which of the bundle's graphs; None takes fp32 if it is there.
            providers: `cpu`, `cuda`, or ONNX Runtime's own names, in order of preference; None takes CUDA where it is
                there, else the CPU. One that is named and does not run is an error.
            revision: Of a hub id: a commit, tag or branch.
            threads: Within an operator; None takes as many as this process may use, or one for a small model on a busy
                machine.
            spin: Whether they wait for work by turning rather than by sleeping: faster, and busy without need.

        Raises:
            BundleError: The bundle is not what its manifest says, or is missing.
            OptionError: An argument is not allowed.
            ProviderError: ONNX Runtime cannot run the model where it was asked to.
        """
        bundle, content = load_with_tokenizer(model, revision, variant=variant)
        variant = bundle.default_variant if variant is None else variant
        import_onnxruntime(bundle.least_onnxruntime)  # now, for it needs the interpreter, as the tokenizer will
        name = str(bundle.folder / "tokenizer.json")
        tokenizer, forward = _at_once(
            lambda: Tokenizer(content, name, bundle.vocab_size, bundle.special),
            lambda: Session(bundle, variant, providers=providers, threads=threads, spin=spin),
        )
        _give_back_memory()
        return cls(bundle, tokenizer, forward)

    def config(self, preset_name: str | None = None, /, **options: Any) -> GenerationConfig:
        """Return the options of a generation.

        Those of the package are overridden by the bundle's, these by what a named preset sets, and all by `options`.

        Raises:
            OptionError: A name is not an option's, or a value is not allowed.
        """
        named = {} if preset_name is None else preset_options(preset_name)
        config = GenerationConfig().replace(**{**self.bundle.options, **named, **options})
        pieces = self.bundle.output_vocabulary or range(self.bundle.vocab_size)
        if len(config.suppress_tokens) >= len(pieces) and set(config.suppress_tokens).issuperset(pieces):
            raise OptionError("suppress_tokens holds the whole vocabulary: leave a token to choose")
        for name in ("cfg_keep_tokens", "suppress_tokens", "penalty_exempt"):
            largest = max(getattr(config, name), default=0)
            if largest >= self.bundle.vocab_size:
                raise OptionError(f"{name} holds {largest}: ids are below {self.bundle.vocab_size}")
        return config

    @overload
    def generate(self, prompt: str, *, template: bool = ..., preset: str | None = ..., **options: Any) -> str: ...
    @overload
    def generate(
        self, prompt: Sequence[str], *, template: bool = ..., preset: str | None = ..., **options: Any
    ) -> list[str]: ...
    def generate(
        self, prompt: str | Sequence[str], *, template: bool = True, preset: str | None = None, **options: Any
    ) -> str | list[str]:
        """Answer a prompt, or each of a list of prompts.

        Args:
            prompt: What a user says. Prompt i of a list is answered as it would be alone with `seed` + i.
            template: Whether to put the prompt into the chat template, trimmed and in Unicode's form NFC. Without it,
                raw text is continued as it is, which may be none.
            preset: `short`, `long` or `fast`.
            **options: Any field of `GenerationConfig`.

        Returns:
            The answer, or the answers in order; with the template, stripped of surrounding white space.

        Raises:
            InputError: A prompt is not text, has none (with the template), or is too long for the model's context.
            OptionError: An option is unknown or not allowed.
            ProviderError: ONNX Runtime fails.
            NumericsError: The model returned what is not finite.
            BundleError: The graph returned what no denoiser can have predicted.
        """
        prompts = _texts("prompt", prompt)
        config = self.config(preset, **options)
        name = "the prompt" if isinstance(prompt, str) else "prompt {}"
        canvases = [self._canvas(text, template, config, i, name.format(i)) for i, text in enumerate(prompts)]
        texts = []
        size = 1 if getattr(self.forward, "alone", False) else BATCH_SIZE
        for first in range(0, len(canvases), size):
            final = self._final(canvases[first : first + size], config)
            texts += [self.answer(canvas.ids, canvas.start, config, template) for canvas in final]
        return texts[0] if isinstance(prompt, str) else texts

    def stream(
        self, prompt: str, *, template: bool = True, preset: str | None = None, **options: Any
    ) -> Iterator[Step]:
        """Answer a prompt step by step. The last step's `text` is what `generate` returns.

        Arguments and errors are those of `generate`; those of arguments are raised before the first step.
        """
        config = self.config(preset, **options)
        canvas = self._canvas(prompt, template, config)
        return (
            replace(step, text=self.answer(step.ids, step.start, config, template))
            for step in denoise(self.forward, [canvas], config, self.bundle.special, self._end_test(config))
        )

    def chat(self, messages: Sequence[Mapping[str, str]], *, preset: str | None = None, **options: Any) -> str:
        """Answer the last of `messages`, each with a `role` (system, user, assistant) and a `content`.

        Raises:
            InputError: There is no message, one cannot be rendered, or all are too long for the model's context.
            OptionError: An option is unknown or not allowed.
            DiffutronError: As of `generate`, while the model runs.
        """
        config = self.config(preset, **options)
        [canvas] = self._final([self._chat_canvas(messages, config)], config)
        return self.answer(canvas.ids, canvas.start, config, template=True)

    @overload
    def fill(self, text: str, **options: Any) -> str: ...
    @overload
    def fill(self, text: Sequence[str], **options: Any) -> list[str]: ...
    def fill(self, text: str | Sequence[str], **options: Any) -> str | list[str]:
        """Put words where a text says `<mask>`; everything else stays as it is.

        Unless told otherwise, the whole text is one block, one mask is filled a step, and there is no repetition
        penalty. A cache saves nothing then: it is for texts in several blocks.

        Args:
            text: With any number of masks, each of which becomes one token. Text i of a list has `seed` + i. One
                without a mask comes back with a warning.
            **options: Any field of `GenerationConfig` that has a meaning here.

        Raises:
            InputError: The text is not a string, or is too long for the model's context.
            OptionError: An option is unknown, not allowed, or without a meaning here.
            DiffutronError: As of `generate`, while the model runs.
        """
        useless = sorted(options.keys() & {*FILL_IGNORES, "preset", "template"})
        if useless:
            raise OptionError(f"{', '.join(useless)}: fill has no such option; a text is as long as it is")
        texts, seed = _texts("text", text), self.config(**options).seed
        name = "the text" if isinstance(text, str) else "text {}"
        drafts = [self._draft(item, name.format(i)) for i, item in enumerate(texts)]
        filled = [self._fill(*draft, options | {"seed": (seed + i) % 2**64}) for i, draft in enumerate(drafts)]
        return filled[0] if isinstance(text, str) else filled

    def answer(self, ids: Ids, start: int, config: GenerationConfig, template: bool) -> str:
        """Return the answer on a canvas [length] whose generated span begins at `start`, without what is still masked.

        It is cut where the stop string begins that is complete first; `StopRule` has the details.
        """
        text = self._stop_rule(config).text(ids, start)
        return text.strip() if template else text

    def _draft(self, text: str, name: str) -> tuple[list[int], list[str]]:
        """Return the ids of a text that is to be filled, and its pieces between the masks."""
        stretches = self.tokenizer.stretches(text)
        self._check_room(sum(map(len, stretches)), masks=len(stretches) - 1)
        ids, pieces = self.tokenizer.encode_masked(text)
        self._check_length(len(ids), 0)
        _warn_of_form(text, name)
        if len(pieces) == 1:
            _warn(f"{name} has no {MASK}, so there is nothing to fill in{_like_a_mask(text)}")
        return ids, pieces

    def _fill(self, ids: Sequence[int], pieces: Sequence[str], options: Mapping[str, Any]) -> str:
        masks = len(pieces) - 1
        if not masks:
            return pieces[0]
        defaults = {"steps": masks, "block_length": len(ids), "repetition_penalty": 1.0}
        config = self.config(**(defaults | dict(options)))
        canvas = for_infilling(ids, config.seed)
        [filled] = self._final([canvas], config.replace(early_end=False))
        return self._splice(pieces, filled.ids, canvas.candidates(Span(0, len(ids)), self.bundle.special.mask))

    def _splice(self, pieces: Sequence[str], ids: Ids, masks: Ids) -> str:
        """Return `pieces` with the text of one token between each and the next.

        Neighbouring masks are decoded together, since letters can be spread over byte tokens. A text that follows
        white space, or begins, needs none of its own.

        Args:
            pieces: Of the text, one more than there were masks.
            ids: Of the text, the masks filled in, int64 [length].
            masks: Where they were, ascending, int64 [n].
        """
        text, first = pieces[0], 0
        for i, piece in enumerate(pieces[1:], 1):
            if piece or i == len(masks):
                run = masks[first:i]
                previous = ids[run[0] - 1].item() if run[0] else None
                filled = self.tokenizer.decode(ids[run].tolist(), previous)
                text += (filled.removeprefix(" ") if not text or text[-1].isspace() else filled) + piece
                first = i
        return text

    def _canvas(
        self, prompt: str, template: bool, config: GenerationConfig, index: int = 0, name: str = "the prompt"
    ) -> Canvas:
        check_text(prompt, name)
        if template:
            if is_blank(prompt):
                raise InputError(f"{name} has no text: write a question")
            return self._chat_canvas([{"role": "user", "content": prompt}], config, index)
        self._check_room(len(prompt), config.max_new_tokens)
        _warn_of_form(prompt, name)
        return self._prompt_canvas(prompt, config, index)

    def _chat_canvas(self, messages: Sequence[Mapping[str, str]], config: GenerationConfig, index: int = 0) -> Canvas:
        template = self.bundle.chat_template
        self._check_room(least_characters(messages, template), config.max_new_tokens)
        prompt = render_chat(messages, template)
        self._check_room(len(prompt), config.max_new_tokens)
        return self._prompt_canvas(prompt, config, index)

    def _prompt_canvas(self, prompt: str, config: GenerationConfig, index: int = 0) -> Canvas:
        ids = self.tokenizer.encode(prompt)
        self._check_length(len(ids), config.max_new_tokens)
        return for_generation(ids, config.max_new_tokens, self.bundle.special.mask, (config.seed + index) % 2**64)

    def _check_room(self, characters: int, new: int = 0, masks: int = 0) -> None:
        """Refuse a text that cannot fit by its length alone, before any work on it.

        Args:
            characters: Of the text, or fewer.
            new: Tokens that are to follow it.
            masks: Which it holds besides the characters.
        """
        if characters + masks > SUSPICIOUS * self.bundle.context_length:
            self._check_length(self.tokenizer.least_tokens(characters) + masks, new, "at least ")

    def _check_length(self, prompt: int, new: int, about: str = "") -> None:
        """Refuse what the model was not trained for, before anything of that size is made."""
        context = self.bundle.context_length
        if prompt + new > context:
            length = f"{prompt} tokens of prompt and {new} new ones are {prompt + new}" if new else f"{prompt} tokens"
            remedy = "shorten the prompt, or lower max_new_tokens" if new else "shorten the text"
            raise ContextError(f"{about}{length}, the model's context is {context}: {remedy}")

    def _stop_rule(self, config: GenerationConfig) -> StopRule:
        return StopRule(self.tokenizer, self.bundle.special, self.bundle.stop_sequences, config.stop)

    def _end_test(self, config: GenerationConfig) -> Callable[[Canvas], bool]:
        """Return the test of whether everything that will be shown of a canvas is settled."""
        rule = self._stop_rule(config)
        return (lambda canvas: rule.is_settled(canvas.ids, canvas.start)) if config.early_end else lambda _: False

    def _final(self, canvases: Sequence[Canvas], config: GenerationConfig) -> list[Canvas]:
        """Denoise `canvases` and return them as they end."""
        ids = [canvas.ids for canvas in canvases]
        for step in denoise(self.forward, canvases, config, self.bundle.special, self._end_test(config)):
            ids[step.row] = step.ids
        return [replace(canvas, ids=last) for canvas, last in zip(canvases, ids, strict=True)]


def _at_once(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Call both, `first` a moment later and in a thread of its own, and return their results.

    Where both fail, the error is the first's.
    """

    def later() -> First:
        time.sleep(HEAD_START)
        return first()

    with ThreadPoolExecutor(1) as thread:
        try:
            awaited = thread.submit(later)
        except RuntimeError:  # the interpreter is ending and starts no thread, or the system has none left
            return first(), second()
        try:
            result = second()
        except Exception:
            awaited.result()
            raise
        return awaited.result(), result


def _give_back_memory() -> None:
    """Return to the system what loading has freed: glibc keeps it, 120 MB of a tokenizer with 256,000 pieces."""
    with suppress(OSError, AttributeError, TypeError):  # another C library, or none by this name
        ctypes.CDLL(None).malloc_trim(0)


def _texts(name: str, given: object) -> Sequence[str]:
    """Return one text or several as several.

    Raises:
        InputError: It is neither, or one of them cannot be encoded.
    """
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Sequence) or isinstance(texts, bytes | bytearray) or not texts:
        raise InputError(f"{name}={brief(given)}: must be a string, or a list of at least one")
    for i, text in enumerate(texts):
        check_text(text, f"the {name}" if isinstance(given, str) else f"{name} {i}")
    return texts


def _warn_of_form(text: str, name: str) -> None:
    """Warn of a text that is taken as it is and is not in NFC."""
    if composed(text) != text:
        _warn(
            f"{name} has letters that are written as several characters (it is not in NFC), which the model hardly "
            'knows: unicodedata.normalize("NFC", ...) joins them'
        )


def _like_a_mask(text: str) -> str:
    """Return a hint where a text has something that was probably meant as a mask."""
    found = LIKE_A_MASK.search(text)
    return f"; {brief(found[0])} is text: a mask is written {MASK}" if found else ""


def _warn(message: str) -> None:
    """Warn about the line outside this package that called it."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "diffutron_ort":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DiffutronWarning, stacklevel=level)
