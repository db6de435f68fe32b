"""The model as its users see it: text in, text out.

Names, arguments and errors are here, and the work is done elsewhere: `prompts` makes canvases, `passages` makes what is
scored, and `templates` makes what is filled; `completing` runs sequences to completion; and `scoring`, `choosing` and
`slots` hold works of several passes. Whatever only these need is imported where they begin: a program that answers
starts sooner.
"""

from collections import abc
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.choosing.question import NO, YES
from diffutron_ort.completing import check_best_of, completed, tallied
from diffutron_ort.completion import Completion, Tally
from diffutron_ort.config import GenerationConfig, preset_options
from diffutron_ort.errors import OptionError
from diffutron_ort.loading import load
from diffutron_ort.prompts import Messages, Prompt, Prompts, checked_prompts, checked_texts, is_chat, is_list
from diffutron_ort.runtime.contract import Forward
from diffutron_ort.sampler.canvas import Canvas, for_infilling
from diffutron_ort.sampler.engine import Engine, run
from diffutron_ort.sampler.sequence import Sequence, Step
from diffutron_ort.scoring.options import SAMPLES, ScoringOptions, check_meaning, unpenalised
from diffutron_ort.scoring.work import finished, only
from diffutron_ort.text.infill import Draft
from diffutron_ort.text.stopping import StopRule
from diffutron_ort.text.tokenizer import Tokenizer
from diffutron_ort.types import Ids, Progress

if TYPE_CHECKING:
    from diffutron_ort.choosing.choice import Choice
    from diffutron_ort.choosing.question import Options, Question
    from diffutron_ort.choosing.scale import Scale
    from diffutron_ort.passages import Passages
    from diffutron_ort.scoring.score import Score
    from diffutron_ort.scoring.work import Work
    from diffutron_ort.slots.filling import Filled
    from diffutron_ort.slots.template import Template
    from diffutron_ort.templates import Templates

FILL_IGNORES = ("max_new_tokens", "stop", "early_end")


class Diffutron:
    """A masked-diffusion language model: a bundle's tokenizer and graph, and the sampler.

    Attributes:
        bundle: Where it comes from.
        tokenizer: Text to ids and back.
        forward: The running graph.
        engine: Runs sequences through it.
    """

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer, forward: Forward) -> None:
        self.bundle = bundle
        self.tokenizer = tokenizer
        self.forward = forward
        self.engine = Engine(forward)
        self._prompts = Prompts(bundle, tokenizer)

    def __repr__(self) -> str:
        """Return the name of the model, and how it runs."""
        return f"<Diffutron {self.bundle.source.get('name')}: {self.forward!r}>"

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        variant: str | None = None,
        providers: abc.Sequence[str] | None = None,
        revision: str | None = None,
        threads: int | None = None,
        spin: bool = True,
        progress: Progress | None = None,
    ) -> Self:
        """Load a model.

        Args:
            model: A folder, or a hub id such as `owner/name`, of a bundle or of a checkpoint; None is the embedded
                demonstration. A checkpoint is exported into the user's cache when it is first used, which needs the
                extra `[export]`.
            variant: Which of the bundle's graphs; None takes the bundle's default, and `int8` of a checkpoint.
            providers: `cpu`, `cuda`, or ONNX Runtime's own names, in order of preference; None takes CUDA if it is
                available, else the CPU. One that is named and does not run is an error.
            revision: Of a hub id: a commit, tag or branch.
            threads: Within an operator; None takes as many as this process may use, or one for a small model on a busy
                machine.
            spin: Whether idle threads busy-wait for work instead of blocking: lower latency, but they use the CPU.
            progress: Called while files are downloaded or a checkpoint is exported, with the name of what is being done
                and how much of the download or of the export is done, from 0 to 1.

        Raises:
            BundleError: The bundle is missing, or is not what its manifest says.
            CheckpointError: The checkpoint cannot be exported.
            FidelityError: The graph that was exported differs too much from the checkpoint.
            DiffutronError: The extra `[export]` is missing, or the user's cache cannot be written.
            OptionError: An argument is not allowed.
            ProviderError: ONNX Runtime cannot run the model where it was asked to.
        """
        loaded = load(
            model,
            variant=variant,
            providers=providers,
            revision=revision,
            threads=threads,
            spin=spin,
            progress=progress,
        )
        return cls(*loaded)

    def config(self, preset_name: str | None = None, /, **options: Any) -> GenerationConfig:
        """Return the options of a generation.

        The bundle's options override the package's, those of a preset that is named override the bundle's, and
        `options` override them all.

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
    def generate(
        self,
        prompt: str,
        *,
        details: Literal[False] = ...,
        template: bool = ...,
        preset: str | None = ...,
        best_of: int = ...,
        **options: Any,
    ) -> str: ...
    @overload
    def generate(
        self,
        prompt: abc.Sequence[str],
        *,
        details: Literal[False] = ...,
        template: bool = ...,
        preset: str | None = ...,
        best_of: int = ...,
        **options: Any,
    ) -> list[str]: ...
    @overload
    def generate(
        self,
        prompt: str,
        *,
        details: Literal[True],
        template: bool = ...,
        preset: str | None = ...,
        best_of: int = ...,
        **options: Any,
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompt: abc.Sequence[str],
        *,
        details: Literal[True],
        template: bool = ...,
        preset: str | None = ...,
        best_of: int = ...,
        **options: Any,
    ) -> list[Completion]: ...
    @overload
    def generate(
        self,
        prompt: str | abc.Sequence[str],
        *,
        details: bool,
        template: bool = ...,
        preset: str | None = ...,
        best_of: int = ...,
        **options: Any,
    ) -> str | list[str] | Completion | list[Completion]: ...
    def generate(
        self,
        prompt: str | abc.Sequence[str],
        *,
        details: bool = False,
        template: bool = True,
        preset: str | None = None,
        best_of: int = 1,
        **options: Any,
    ) -> str | list[str] | Completion | list[Completion]:
        """Answer a prompt, or each of a list of prompts.

        Args:
            prompt: What a user says. Prompt i of a list is answered as it would be alone with `seed` + i.
            details: Whether to return a `Completion` instead of its text.
            template: Whether to put the prompt into the chat template, trimmed and in Unicode's form NFC. Without it,
                raw text is continued as it is, and may be empty.
            preset: `short`, `long` or `fast`.
            best_of: How many answers to write, of which the one is returned that the model is surest of when it reads
                it again (`Completion.self_confidence`). Answer j has the seed of the first + j.
            **options: Any field of `GenerationConfig`.

        Returns:
            The answer, or the answers in order; with the template, stripped of surrounding white space.

        Raises:
            InputError: A prompt is not a string, is blank (with the template), or is too long for the model's context.
            OptionError: An option is unknown or not allowed.
            ProviderError: ONNX Runtime fails.
            NumericsError: The model returned a value that is not finite.
            BundleError: The graph returned what no denoiser can have predicted.
        """
        prompts = checked_texts(prompt, "prompt")
        found = self._complete(prompts, isinstance(prompt, str), template, self.config(preset, **options), best_of)
        answers = found if details else [completion.text for completion in found]
        return answers[0] if isinstance(prompt, str) else answers

    @overload
    def complete(
        self,
        prompt: Prompt,
        *,
        template: bool = ...,
        preset: str | None = ...,
        best_of: int = ...,
        self_confidence: bool = ...,
        **options: Any,
    ) -> Completion: ...
    @overload
    def complete(
        self,
        prompt: abc.Sequence[Prompt],
        *,
        template: bool = ...,
        preset: str | None = ...,
        best_of: int = ...,
        self_confidence: bool = ...,
        **options: Any,
    ) -> list[Completion]: ...
    def complete(
        self,
        prompt: Prompt | abc.Sequence[Prompt],
        *,
        template: bool = True,
        preset: str | None = None,
        best_of: int = 1,
        self_confidence: bool = False,
        **options: Any,
    ) -> Completion | list[Completion]:
        """Answer a prompt or messages, or each of a list of these, and return the answer with its figures.

        Args:
            prompt: A user's text or messages, or a list of these.
            template: As for `generate`.
            preset: As for `generate`.
            best_of: As for `generate`.
            self_confidence: Whether to ask the model, in one more pass, how sure it is of the finished answer.
            **options: As for `generate`.

        Raises:
            DiffutronError: As for `generate`.
        """
        single = isinstance(prompt, str) or is_chat(prompt)
        prompts: abc.Sequence[Any] = [prompt] if single else checked_prompts(prompt)
        found = self._complete(prompts, single, template, self.config(preset, **options), best_of, self_confidence)
        return found[0] if single else found

    def stream(
        self, prompt: Prompt, *, template: bool = True, preset: str | None = None, **options: Any
    ) -> Iterator[Step]:
        """Answer a prompt or messages step by step. The last step's `text` is what `generate` returns.

        Arguments and errors are those of `generate`; errors of arguments are raised before the first step.
        """
        sequence = self.sequence(prompt, template=template, preset=preset, **options)
        return (step for _, step in run(self.engine, [sequence], 1))

    @overload
    def chat(
        self, messages: Messages, *, stream: Literal[False] = ..., preset: str | None = ..., **options: Any
    ) -> str: ...
    @overload
    def chat(
        self, messages: Messages, *, stream: Literal[True], preset: str | None = ..., **options: Any
    ) -> Iterator[Step]: ...
    @overload
    def chat(
        self, messages: Messages, *, stream: bool, preset: str | None = ..., **options: Any
    ) -> str | Iterator[Step]: ...
    def chat(
        self, messages: Messages, *, stream: bool = False, preset: str | None = None, **options: Any
    ) -> str | Iterator[Step]:
        """Answer the last of `messages`, each with a `role` (system, user, assistant) and a `content`.

        Args:
            messages: The conversation. Only the first can be the system's, and the last must be the user's.
            stream: Whether to return the steps, as `stream` does, instead of the answer.
            preset: As for `generate`.
            **options: As for `generate`.

        Raises:
            InputError: There is no message, one cannot be rendered, or all are too long for the model's context.
            OptionError: An option is unknown or not allowed.
            DiffutronError: As for `generate`, while the model runs.
        """
        config = self.config(preset, **options)
        sequence = self._sequence(self._prompts.chat(messages, config), config, template=True)
        steps = (step for _, step in run(self.engine, [sequence], 1))
        return steps if stream else _last(steps).text

    def sequence(
        self, prompt: Prompt, *, template: bool = True, preset: str | None = None, index: int = 0, **options: Any
    ) -> Sequence:
        """Return the sequence that answers a prompt or messages, to be taken through `engine` beside others.

        Args:
            prompt: As for `stream`.
            template: As for `generate`.
            preset: As for `generate`.
            index: Of the prompt in a list: it is added to `seed`.
            **options: As for `generate`.

        Raises:
            InputError: As for `generate`.
            OptionError: As for `generate`.
        """
        config = self.config(preset, **options)
        return self._sequence(self._prompts.canvas(prompt, template, config, index), config, template)

    def raw_sequence(
        self,
        prompt: str | abc.Sequence[int],
        suffix: str | abc.Sequence[int] = "",
        *,
        preset: str | None = None,
        index: int = 0,
        **options: Any,
    ) -> Sequence:
        """Return the sequence that continues raw text, or writes what stands between it and a suffix.

        Args:
            prompt: Text, which is not put into the chat template, or token ids [n].
            suffix: Text or token ids that the new text comes before. It is given to the model whole, and no token of it
                is part of the answer.
            preset: As for `generate`.
            index: Of the prompt in a list: it is added to `seed`.
            **options: As for `generate`.

        Raises:
            InputError: As for `generate`; or a token id is outside the vocabulary.
            OptionError: As for `generate`.
        """
        config = self.config(preset, **options)
        canvas = self._prompts.raw(prompt, suffix, config, index, "the prompt")
        return self._sequence(canvas, config, template=False)

    @overload
    def fill(self, text: str, *, slots: None = ..., **options: Any) -> str: ...
    @overload
    def fill(self, text: abc.Sequence[str], *, slots: None = ..., **options: Any) -> list[str]: ...
    @overload
    def fill(
        self, text: str | Mapping[str, Any], *, slots: Mapping[str, Any], prompt: Prompt | None = ..., **options: Any
    ) -> "Filled": ...
    def fill(
        self,
        text: str | abc.Sequence[str] | Mapping[str, Any],
        *,
        slots: Mapping[str, Any] | None = None,
        prompt: Prompt | None = None,
        **options: Any,
    ) -> "str | list[str] | Filled":
        """Put words where a text says `<mask>`, or values into the slots of a template; all else stays as it is.

        Unless told otherwise, the whole text is one block, one mask is filled a step, and there is no repetition
        penalty. A cache only saves time in a text of several blocks. For slots, `filling` has the details.

        Args:
            text: With any number of masks, each of which becomes one token. Text i of a list has `seed` + i. One
                without a mask is returned as it is, with a warning. With `slots`, a template.
            slots: The bounds of each slot of the template, by its name.
            prompt: With `slots`, what the template answers.
            **options: Any field of `GenerationConfig` that has a meaning here.

        Raises:
            InputError: The text is not a string, or is too long for the model's context.
            OptionError: An option is unknown, not allowed, or without a meaning here.
            DiffutronError: As for `generate`, while the model runs.
        """
        if slots is not None:
            return finished(self.filling(text, slots, prompt=prompt, **options))
        if prompt is not None:
            raise OptionError("prompt: of no meaning without slots; only a template with slots answers a prompt")
        useless = sorted(options.keys() & {*FILL_IGNORES, "preset", "template"})
        if useless:
            raise OptionError(f"{', '.join(useless)}: fill has no such option; it only fills the masks of a text")
        texts, seed = checked_texts(text, "text"), self.config(**options).seed
        drafts = self._prompts.drafts(texts, single=isinstance(text, str))
        sequences = [self._infilling(draft, options | {"seed": (seed + i) % 2**64}) for i, draft in enumerate(drafts)]
        tallies = tallied(self.engine, sequences)
        filled = [self._filled(*each) for each in zip(drafts, sequences, tallies, strict=True)]
        return filled[0] if isinstance(text, str) else filled

    @overload
    def score(
        self,
        text: str | Ids,
        context: str | Messages | Ids = "",
        *,
        method: str = ...,
        template: bool = ...,
        samples: int = ...,
        stride: int | None = ...,
        preset: str | None = ...,
        **options: Any,
    ) -> "Score": ...
    @overload
    def score(
        self,
        text: abc.Sequence[str | Ids],
        context: str | Messages | Ids | abc.Sequence[str | Messages | Ids] = "",
        *,
        method: str = ...,
        template: bool = ...,
        samples: int = ...,
        stride: int | None = ...,
        preset: str | None = ...,
        **options: Any,
    ) -> "list[Score]": ...
    def score(self, text: Any, context: Any = "", **asked: Any) -> "Score | list[Score]":
        """Return how likely a text is after its context, or each text of a list.

        Arguments and errors are those of `scoring`.
        """
        found = finished(self.scoring(text, context, **asked))
        return found if is_list(text) else found[0]

    def scoring(
        self,
        text: str | Ids | abc.Sequence[str | Ids],
        context: str | Messages | Ids | abc.Sequence[str | Messages | Ids] = "",
        *,
        method: str = "policy",
        template: bool = False,
        samples: int = SAMPLES,
        stride: int | None = None,
        preset: str | None = None,
        **options: Any,
    ) -> "Work[list[Score]]":
        """Return the work that scores texts: each `next` runs a pass, and its result is a list of scores.

        Texts that are longer than the model's context are scored in windows: the first scores as much as it holds, and
        each later one `stride` tokens, after as many as fit.

        Args:
            text: A text, or its token ids, an array [n]; or a list of these. A mask among ids is not scored.
            context: What stands before it, for all texts or for each of a list: a text or token ids; with the template,
                a user's prompt or messages.
            method: `policy`: the exact likelihood under the sampler at temperature 0, whose other options count
                (arXiv:2603.01367). `elbo`: the bound that masked diffusion is trained on, estimated from `samples`
                passes (arXiv:2406.07524). `pll`: the pseudo-log-likelihood, each token given all others, in as many
                passes as there are tokens (arXiv:1910.14659). `pll_word_l2r`: the same with the rest of a token's word
                masked (arXiv:2305.10588).
            template: Whether the text is the whole answer to its context, in the chat template; the tokens that end an
                answer are scored as well.
            samples: Of the method `elbo`; at least 2.
            stride: The most tokens that a window after the first scores; None is half the model's context.
            preset: As for `generate`, for the method `policy`.
            **options: Any field of `GenerationConfig` that has a meaning for the method: all that concern the sampler
                for `policy`, and `seed` for `elbo`, to which i is added for text i.

        Raises:
            InputError: A text or a context is not what it should be.
            OptionError: An option is unknown, not allowed, or without a meaning for the method.
            DiffutronError: As for `generate`, while the model runs.
        """
        from diffutron_ort.scoring.scorer import scored  # a start does not need it

        asked = self._scoring_options(preset, options, method=method, samples=samples, stride=stride)
        passages = self._passages.of_texts(text, context, template, asked.config.seed)
        return scored(self.forward, self.bundle.special, passages, asked)

    def choose(self, question: Prompt, options: "Options", **asked: Any) -> "Choice":
        """Return how likely each of the given answers to a question is, and which is best.

        Arguments and errors are those of `choosing`.
        """
        return finished(self.choosing(question, options, **asked))

    def choosing(
        self,
        question: Prompt,
        options: "Options",
        *,
        method: str = "policy",
        normalise: str = "none",
        debias: bool = False,
        separator: str = ", ",
        template: bool = True,
        samples: int = SAMPLES,
        preset: str | None = None,
        **more: Any,
    ) -> "Work[Choice]":
        """Return the work that chooses among given answers: each `next` runs a pass, and its result is a `Choice`.

        The probabilities are the softmax of the options' log-likelihoods, each as the whole answer. In the chat
        template, all of them stand on canvases of one length, the shorter ones with `<pad>` after their end.

        Args:
            question: A text or messages. `{options}` in it becomes the list of the options.
            options: The answers: 1 to 255 texts, none blank, none twice; or a mapping from these to what each stands
                for (or None), which the list then shows: `option: description`.
            method: As for `scoring`.
            normalise: What each log-likelihood is divided by: `none`, `tokens` (their number, with those that end the
                answer) or `bytes` (the length in UTF-8).
            debias: Whether to average the log-probabilities over orders in which the question lists the options: all
                orders of up to three options, else each rotation of the list (arXiv:2610.00831).
            separator: Stands between two options in the list.
            template: Whether to put the question into the chat template. Without it, each option continues the
                question as it is, and no end of an answer is scored.
            samples: As for `scoring`.
            preset: As for `scoring`.
            **more: As for `scoring`, but that `repetition_penalty` is 1 unless told otherwise: words of the question
                are as good as others.

        Raises:
            InputError: The options are not what they should be, the model can write none of them, the question is
                blank, or they are too long for the model's context.
            OptionError: An option is unknown, not allowed, or without a meaning for the method; or `debias` without
                `{options}` in the question.
            DiffutronError: As for `generate`, while the model runs.
        """
        from diffutron_ort.choosing.chooser import Asking, chosen  # a start does not need them
        from diffutron_ort.choosing.question import Question

        asked = self._choosing_options(preset, more, method=method, normalise=normalise, samples=samples)
        put = Question(question, options, debias=debias, separator=separator)
        asking = Asking(put, self._passages.of_options(put, template, asked.config.seed))
        return only(chosen(self.forward, self.bundle.special, [asking], asked, normalise=normalise, level=template))

    def choosing_each(
        self,
        questions: "Mapping[str, Question]",
        *,
        method: str = "policy",
        normalise: str = "none",
        template: bool = True,
        samples: int = SAMPLES,
        preset: str | None = None,
        **more: Any,
    ) -> "Work[dict[str, Choice]]":
        """Return the work that answers several questions, whose options share passes; its result is a choice for each.

        Args:
            questions: By name, each with its options; an error names the question that it is about.
            method: As for `choosing`.
            normalise: As for `choosing`.
            template: As for `choosing`.
            samples: As for `scoring`.
            preset: As for `scoring`.
            **more: As for `choosing`.

        Raises:
            InputError: As for `choosing`.
            OptionError: As for `choosing`.
            DiffutronError: As for `generate`, while the model runs.
        """
        from diffutron_ort.choosing.chooser import Asking, by_name, chosen  # a start does not need them
        from diffutron_ort.choosing.question import about, checked_questions

        asked, askings = self._choosing_options(preset, more, method=method, normalise=normalise, samples=samples), []
        for name, put in checked_questions(questions).items():
            with about(name):
                askings.append(Asking(put, self._passages.of_options(put, template, asked.config.seed)))
        work = chosen(self.forward, self.bundle.special, askings, asked, normalise=normalise, level=template)
        return by_name([*questions], work)

    def yes_no(self, question: Prompt, *, yes: str = YES, no: str = NO, **asked: Any) -> float:
        """Return the probability of `yes` as the answer to a question, where the answer is `yes` or `no`.

        Other arguments and errors are those of `choosing`.
        """
        return float(self.choose(question, [yes, no], **asked).probabilities[0])

    def scale(
        self, question: Prompt, levels: "Options", *, values: abc.Sequence[float] | None = None, **asked: Any
    ) -> "Scale":
        """Return where on a scale of ordered levels the answer to a question lies.

        Arguments and errors are those of `scaling`.
        """
        return finished(self.scaling(question, levels, values=values, **asked))

    def scaling(
        self, question: Prompt, levels: "Options", *, values: abc.Sequence[float] | None = None, **asked: Any
    ) -> "Work[Scale]":
        """Return the work that finds the place of an answer on a scale; its result is a `Scale`.

        Args:
            question: As for `choosing`.
            levels: The answers, in order; as for `choosing`.
            values: The number of each level; None counts from 0.
            **asked: As for `choosing`, without `debias`: the order of levels has a meaning.

        Raises:
            InputError: As for `choosing`; or there is not one finite number for each level.
            OptionError: As for `choosing`.
            DiffutronError: As for `generate`, while the model runs.
        """
        from diffutron_ort.choosing.question import checked_options  # a start does not need them
        from diffutron_ort.choosing.scale import level_values, scaled

        if "debias" in asked:
            raise OptionError("debias: of no meaning on a scale, whose levels stand in order; leave it out")
        numbers = level_values(values, len(checked_options(levels, "levels")))
        return scaled(self.choosing(question, levels, **asked), numbers)

    def filling(
        self,
        text: "str | Mapping[str, Any] | abc.Sequence[str] | Template",
        slots: Mapping[str, Any],
        *,
        prompt: Prompt | None = None,
        preset: str | None = None,
        **options: Any,
    ) -> "Work[Filled]":
        """Return the work that fills a template's slots: each `next` runs a pass, and its result is a `Filled`.

        Slots are filled from left to right: the model finds out the length of each, then writes it, the token that it
        is surest of first; of a slot with options, it takes the likeliest. Every value keeps its bounds.

        Args:
            text: A template with places such as `{{city}}`: text, or an object that becomes JSON. A text that is a JSON
                object but for its places is kept one: values are written as JSON there.
            slots: By name, the bounds of each: a dict with any of `least`, `most` (tokens), `pattern` (text, word,
                letters, words, digits, integer, number, date, time, or a regular expression of a small syntax),
                `options`, `least_characters`, `most_characters`, `minimum` and `maximum` (of numbers); or `any_of`, a
                list of bounds; or a pattern; or a list of options.
            prompt: A text or messages; the template then stands in the place of the answer.
            preset: As for `generate`.
            **options: `steps` (the most passes that write a slot), `temperature` and `seed`.

        Raises:
            InputError: The template or the prompt is not what it should be, or they are too long for the context.
            OptionError: An option or a bound is unknown or not allowed, a place has no slot or a slot no place, or
                nothing keeps the bounds of a slot.
            DiffutronError: As for `generate`, while the model runs.
        """
        from diffutron_ort.templates import check_options  # a start does not need them

        check_options(options)
        return self.templates.filling(text, slots, prompt, self.config(preset, **options)).work(self.forward)

    @cached_property
    def _passages(self) -> "Passages":
        from diffutron_ort.passages import Passages

        return Passages(self.bundle, self.tokenizer)

    @cached_property
    def templates(self) -> "Templates":
        """What makes templates with slots ready."""
        from diffutron_ort.templates import Templates

        return Templates(self.bundle, self.tokenizer)

    def extract_answer(self, ids: Ids, start: int, config: GenerationConfig, template: bool) -> str:
        """Return the answer on a canvas [length] whose generated span begins at `start`, without its masks.

        It is truncated at the start of whichever stop string completes first; `StopRule` has the details.
        """
        return self._stop_rule(config, template).text(ids, start)

    def _scoring_options(self, preset: str | None, options: Mapping[str, Any], **asked: Any) -> ScoringOptions:
        """Return the options of a scoring: those that are `asked`, and the options of a generation.

        Raises:
            OptionError: One is unknown, not allowed, or without a meaning for the method.
        """
        check_meaning(asked["method"], options if preset is None else {**options, "preset": preset})
        config = self.config(preset, **{"temperature": 0.0, **options})
        return ScoringOptions(config=config, context_length=self.bundle.context_length, **asked)

    def _choosing_options(
        self, preset: str | None, options: Mapping[str, Any], *, method: str, normalise: str, samples: int
    ) -> ScoringOptions:
        """Return how the options of questions are scored; errors are those of `_scoring_options`."""
        from diffutron_ort.choosing.chooser import check_normalise  # a start does not need it

        check_normalise(normalise)
        return self._scoring_options(preset, {**unpenalised(method), **options}, method=method, samples=samples)

    def _complete(
        self,
        prompts: abc.Sequence[Prompt],
        single: bool,
        template: bool,
        config: GenerationConfig,
        best_of: int,
        self_confidence: bool = False,
    ) -> list[Completion]:
        """Return the completions of prompts, in order."""
        check_best_of(best_of, config)
        canvases = self._prompts.canvases(prompts, single, template, config)
        several = [canvas.reseeded(j) for canvas in canvases for j in range(best_of)]
        sequences = [self._sequence(canvas, config, template) for canvas in several]
        return completed(self.engine, sequences, best_of, self_confidence)

    def _sequence(self, canvas: Canvas, config: GenerationConfig, template: bool) -> Sequence:
        return Sequence(canvas, config, self.bundle.special, self._stop_rule(config, template))

    def _stop_rule(self, config: GenerationConfig, template: bool) -> StopRule:
        bundle = self.bundle
        return StopRule(self.tokenizer, bundle.special, bundle.stop_sequences, config.stop, strip=template)

    def _infilling(self, draft: Draft, options: Mapping[str, Any]) -> Sequence:
        """Return the sequence that fills a draft."""
        defaults = {"steps": max(1, draft.masks), "block_length": max(1, len(draft.ids)), "repetition_penalty": 1.0}
        config = self.config(**(defaults | dict(options)))
        return Sequence(for_infilling(draft.ids, config.seed), config, self.bundle.special)

    def _filled(self, draft: Draft, sequence: Sequence, tally: Tally) -> str:
        """Return a draft's text with the tokens that its sequence wrote."""
        if tally.last is None:
            return draft.pieces[0]
        return draft.spliced(self.tokenizer, tally.last.ids, sequence.initial.masks(self.bundle.special.mask))


def _last(steps: Iterator[Step]) -> Step:
    """Return the last of some steps."""
    *_, last = steps
    return last
