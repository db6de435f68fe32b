"""The model as its users see it: text in, text out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, overload

from diffutron_ort.bundle import Bundle, load_bundle
from diffutron_ort.canvas import Canvas, answer, for_generation, for_infilling, settled
from diffutron_ort.config import GenerationConfig, preset
from diffutron_ort.denoise import Step, denoise
from diffutron_ort.errors import BundleError, ContextError, InputError, OptionError
from diffutron_ort.predict import Forward
from diffutron_ort.prompt import render_chat
from diffutron_ort.sampling import Ids
from diffutron_ort.session import Session
from diffutron_ort.tokens import Tokenizer, check_text

BATCH_SIZE = 8
FILL_IGNORES = ("max_new_tokens", "stop", "early_end")


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
    ) -> Self:
        """Load a model.

        Args:
            model: A bundle's folder, or a hub id such as `owner/name`; None is the embedded demonstration.
            variant: Which of the bundle's graphs; None takes fp32 if it is there.
            providers: `cpu`, `cuda`, or ONNX Runtime's own names, in order of preference; None takes CUDA where it is
                there, else the CPU. One that is named and does not run is an error.
            revision: Of a hub id: a commit, tag or branch.
            threads: Within an operator; None takes as many as this process may use.

        Raises:
            BundleError: The bundle is not what its manifest says, or is missing.
            OptionError: An argument is not allowed.
            ProviderError: ONNX Runtime cannot run the model where it was asked to.
        """
        bundle = load_bundle(model, revision)
        tokenizer = Tokenizer(bundle.folder / "tokenizer.json", bundle.vocab_size, bundle.special.mask)
        variant = variant or next((name for name in ("fp32", *bundle.variants) if name in bundle.variants), "fp32")
        return cls(bundle, tokenizer, Session(bundle, variant, providers=providers, threads=threads))

    def config(self, preset_name: str | None = None, **options: Any) -> GenerationConfig:
        """Return the options of a generation: a preset's, overridden by the bundle's own, overridden by `options`.

        Raises:
            OptionError: A name is not an option's, or a value is not allowed.
        """
        try:
            base = preset(preset_name or "short").replace(**self.bundle.generation_options())
        except OptionError as error:
            if preset_name is None:
                raise BundleError(f"generation_config.json of {self.bundle.folder}: {error}") from error
            raise
        config = base.replace(**options)
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
            template: Whether to put the prompt into the chat template. Without it, raw text is continued.
            preset: `short` or `long`.
            **options: Any field of `GenerationConfig`.

        Returns:
            The answer, or the answers in order; with the template, stripped of surrounding white space.

        Raises:
            InputError: A prompt is not text, or is too long for the model's context.
            OptionError: An option is unknown or not allowed.
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(prompts, Sequence) or isinstance(prompts, bytes) or not prompts:
            raise InputError(f"prompt={prompt!r}: must be a string, or a list of at least one")
        config = self.config(preset, **options)
        canvases = [self._canvas(text, template, config, i) for i, text in enumerate(prompts)]
        texts = []
        for first in range(0, len(canvases), BATCH_SIZE):
            final = self._final(canvases[first : first + BATCH_SIZE], config)
            texts += [self._text(canvas.generated, config, template) for canvas in final]
        return texts[0] if isinstance(prompt, str) else texts

    def stream(
        self, prompt: str, *, template: bool = True, preset: str | None = None, **options: Any
    ) -> Iterator[Step]:
        """Answer a prompt step by step. The last step's `text` is what `generate` returns.

        Arguments and errors are those of `generate`, which are raised before the first step.
        """
        config = self.config(preset, **options)
        canvas = self._canvas(prompt, template, config)
        return (
            replace(step, text=self._text(step.ids[step.start :], config, template))
            for step in denoise(self.forward, [canvas], config, self.bundle.special, self._has_ended(config))
        )

    def chat(self, messages: Sequence[Mapping[str, str]], *, preset: str | None = None, **options: Any) -> str:
        """Answer the last of `messages`, each with a `role` (system, user, assistant) and a `content`.

        Raises:
            InputError: There is no message, one cannot be rendered, or all are too long for the model's context.
            OptionError: An option is unknown or not allowed.
        """
        config = self.config(preset, **options)
        [canvas] = self._final([self._prompt_canvas(render_chat(messages, self.bundle.chat_template), config)], config)
        return self._text(canvas.generated, config, template=True)

    @overload
    def fill(self, text: str, **options: Any) -> str: ...
    @overload
    def fill(self, text: Sequence[str], **options: Any) -> list[str]: ...
    def fill(self, text: str | Sequence[str], **options: Any) -> str | list[str]:
        """Put words where a text says `<mask>`; everything else stays as it is.

        The whole text is one block. Unless told otherwise, one mask is filled a step, without repetition penalty.

        Args:
            text: With any number of masks, each of which becomes one token. Text i of a list has `seed` + i.
            **options: Any field of `GenerationConfig` that has a meaning here.

        Raises:
            InputError: The text is not a string, or is too long for the model's context.
            OptionError: An option is unknown, not allowed, or without a meaning here.
        """
        useless = sorted(options.keys() & set(FILL_IGNORES))
        if useless:
            raise OptionError(f"{', '.join(useless)}: fill has no such option; a text is as long as it is")
        if isinstance(text, str):
            return self._fill(text, options)
        seed = self.config(**options).seed
        return [self._fill(item, options | {"seed": (seed + i) % 2**64}) for i, item in enumerate(text)]

    def _fill(self, text: str, options: Mapping[str, Any]) -> str:
        ids, pieces = self.tokenizer.encode_masked(text)
        self._check_length(len(ids), 0)
        masks = len(pieces) - 1
        if not masks:
            return text
        defaults = {"steps": masks, "block_length": len(ids), "repetition_penalty": 1.0}
        config = self.config(**(defaults | dict(options)))
        canvas = for_infilling(ids, config.seed)
        [filled] = self._final([canvas], config.replace(early_end=False))
        return self._splice(pieces, filled.ids[canvas.ids == self.bundle.special.mask])

    def _splice(self, pieces: Sequence[str], tokens: Ids) -> str:
        """Return `pieces` with the text of one token between each and the next.

        Neighbouring masks are decoded together, since letters can be spread over byte tokens. A text that follows
        white space, or begins, needs none of its own.
        """
        text, run = pieces[0], []
        for last, (token, piece) in enumerate(zip(tokens.tolist(), pieces[1:], strict=True), 1 - len(tokens)):
            run.append(token)
            if piece or not last:
                filled = self.tokenizer.decode(run)
                text += (filled.removeprefix(" ") if not text or text[-1].isspace() else filled) + piece
                run = []
        return text

    def _canvas(self, prompt: str, template: bool, config: GenerationConfig, index: int = 0) -> Canvas:
        check_text(prompt, "prompt")
        if template:
            prompt = render_chat([{"role": "user", "content": prompt}], self.bundle.chat_template)
        return self._prompt_canvas(prompt, config, index)

    def _prompt_canvas(self, prompt: str, config: GenerationConfig, index: int = 0) -> Canvas:
        ids = self.tokenizer.encode(prompt)
        self._check_length(len(ids), config.max_new_tokens)
        return for_generation(ids, config.max_new_tokens, self.bundle.special.mask, (config.seed + index) % 2**64)

    def _check_length(self, prompt: int, new: int) -> None:
        """Refuse what the model was not trained for, before anything of that size is made."""
        if prompt + new > self.bundle.context_length:
            raise ContextError(
                f"{prompt} tokens of prompt and {new} new ones are {prompt + new}, the model's context is "
                f"{self.bundle.context_length}: shorten the text, or lower max_new_tokens"
            )

    def _has_ended(self, config: GenerationConfig) -> Callable[[Canvas], bool]:
        """Return the test of whether everything that will be shown of a canvas is settled."""

        def has_ended(canvas: Canvas) -> bool:
            tokens, ended = answer(settled(canvas.generated, special.mask), special, stops)
            return ended or any(stop in self.tokenizer.decode(tokens.tolist()) for stop in config.stop)

        special, stops = self.bundle.special, [ids for _, ids in self.bundle.stop_sequences]
        return has_ended if config.early_end else lambda _: False

    def _final(self, canvases: Sequence[Canvas], config: GenerationConfig) -> list[Canvas]:
        """Denoise `canvases` and return them as they end."""
        ids = [canvas.ids for canvas in canvases]
        for step in denoise(self.forward, canvases, config, self.bundle.special, self._has_ended(config)):
            ids[step.row] = step.ids
        return [replace(canvas, ids=last) for canvas, last in zip(canvases, ids, strict=True)]

    def _text(self, generated: Ids, config: GenerationConfig, template: bool) -> str:
        """Return the answer in `generated` [m], cut at its end and without what is still masked."""
        tokens, _ = answer(generated, self.bundle.special, [ids for _, ids in self.bundle.stop_sequences])
        text = self.tokenizer.decode(tokens.tolist())
        for stop in (*(text for text, _ in self.bundle.stop_sequences), *config.stop):
            text = text.partition(stop)[0]
        return text.strip() if template else text
