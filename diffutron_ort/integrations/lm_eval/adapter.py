"""The model as lm-evaluation-harness calls it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from diffutron_ort.errors import OptionError
from diffutron_ort.extras import needing
from diffutron_ort.integrations.lm_eval import BATCH
from diffutron_ort.integrations.lm_eval.fitting import Fits
from diffutron_ort.integrations.lm_eval.generation import before_stops, generation_options, stops
from diffutron_ort.model import Diffutron
from diffutron_ort.sampler import sequence
from diffutron_ort.sampler.engine import batch_size, run
from diffutron_ort.scoring.options import SAMPLES
from diffutron_ort.scoring.score import Score
from diffutron_ort.scoring.work import finished
from diffutron_ort.text.chat_template import is_blank, render_chat
from diffutron_ort.types import Progress

with needing("eval", "lm-eval's model"):
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model

NAME = "diffutron-ort"


@register_model(NAME)
class DiffutronLM(LM):  # type: ignore[misc]  # lm-eval has no types, or is not installed
    """A `Diffutron` that lm-eval can ask for likelihoods and for answers.

    A continuation's likelihood is `Diffutron.score`'s. Where the tokenizer joins the end of a context and the beginning
    of a continuation into one token, that token counts to the continuation. No token is put before a text or after it,
    and `<mask>` in a text is the characters, not a mask. A context that does not fit loses its beginning, and `fits`
    counts it.

        from lm_eval import simple_evaluate

        simple_evaluate(model=DiffutronLM(Diffutron.from_pretrained(), method="elbo"), tasks=["belebele_tur_Latn"])

    Attributes:
        model: The model.
        fits: How many prompts of each task fitted.
        check_greedy: Whether `is_greedy` is worked out. It costs about one generation a continuation, and only metrics
            such as `exact_match` of choices or `acc` of a single continuation need it; where it is not worked out, it
            is False.
    """

    def __init__(
        self,
        model: Diffutron | str | Path | None = None,
        *,
        method: str = "policy",
        samples: int = SAMPLES,
        seed: int = 0,
        stride: int | None = None,
        batch_size: int | str = BATCH,
        check_greedy: bool = True,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        """Take a model, or load one.

        Args:
            model: The model, or the name of one, which `Diffutron.from_pretrained` loads.
            method: Of `Diffutron.score`.
            samples: Of the method `elbo`.
            seed: Of what is drawn: request i of a kind has `seed` + i for a likelihood; for an answer it has `seed`,
                plus the number of equal requests before it, unless its task names a seed.
            stride: Of texts that are longer than the model's context, as for `Diffutron.score`.
            batch_size: Requests that are worked on together. It has no effect on the results but for rounding.
            check_greedy: See the class.
            progress: Called with what is being done, and how much of it is done, from 0 to 1.
            **options: Options of the sampler, for answers and for the method `policy`.

        Raises:
            OptionError: A value is not allowed.
            DiffutronError: As for `Diffutron.from_pretrained`.
        """
        super().__init__()
        self.model = model if isinstance(model, Diffutron) else Diffutron.from_pretrained(model)
        self.fits, self.check_greedy = Fits(), check_greedy
        self._batch, self._progress = _checked_batch(batch_size), progress or _unseen
        self._method, self._samples, self._seed, self._options = method, samples, seed, options
        drawn = options if method == "policy" else {}
        self._scoring = {"method": method, "samples": samples, "stride": stride, **drawn}
        self.model.scoring("", seed=seed, **self._scoring)  # which checks them

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        """Return for each request, a context and a continuation, the likelihood in nats, and whether it is greedy.

        An empty continuation is certain: 0. It is greedy if the sampler at temperature 0 and with as many masks writes
        exactly its tokens; a context that had to be cut, or a continuation beyond the model's context, never is.
        """
        found: list[tuple[float, bool]] = []
        for batch in self._batches(requests):
            contexts, texts = zip(*(request.args for request in batch), strict=True)
            scores = self._scores(texts, contexts, len(found), len(requests))
            greedy = self._greedy(contexts, texts, scores) if self.check_greedy else [False] * len(batch)
            for request, score, is_greedy in zip(batch, scores, greedy, strict=True):
                self.fits.note(request, score.context_cut)
                found.append((score.logprob, is_greedy))
                self.cache_hook.add_partial("loglikelihood", request.args, found[-1])
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        """Return the likelihood of each text in nats, by windows where it is longer than the model's context."""
        found: list[float] = []
        for batch in self._batches(requests):
            texts = [request.args[0] for request in batch]
            for request, score in zip(batch, self._scores(texts, "", len(found), len(requests)), strict=True):
                self.fits.note(request, 0)
                found.append(score.logprob)
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """Return the answer to each request, a prompt and a task's `generation_kwargs`.

        An answer has at most `max_gen_toks` tokens, in as many steps, and ends where the first of `until` begins; the
        prompt gives up its beginning where both do not fit. It is greedy unless the task samples. After a prompt in the
        chat template it is stripped of white space, as by `Diffutron.generate`.

        Raises:
            OptionError: `max_gen_toks` leaves no room for a prompt, or another option is not allowed.
        """
        found, seen = [], Counter[str]()
        for batch in self._batches(requests):
            sequences = []
            for request in batch:
                key = json.dumps(request.args, default=str)
                sequences.append(self._answering(request, repeat=seen[key]))
                seen[key] += 1
            for request, step in zip(batch, self._run(sequences), strict=True):
                found.append(self._answer(step, *request.args))
                self.cache_hook.add_partial("generate_until", request.args, found[-1])
            self._progress("generating answers", len(found) / len(requests))
        return found

    def apply_chat_template(self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """Return messages in the chat template of the model.

        Without `add_generation_prompt`, the last message is the beginning of the answer, which is to be continued.

        Raises:
            InputError: A message cannot be rendered.
            OptionError: A prompt is empty.
        """
        asked, begun = (chat_history, "") if add_generation_prompt else (chat_history[:-1], chat_history[-1]["content"])
        if asked and asked[-1]["role"] == "user" and is_blank(asked[-1]["content"]):
            raise OptionError("a task has an empty prompt: evaluate it apart, without the chat template")
        return render_chat(asked, self.model.bundle.chat_template) + begun

    def chat_template(self, chat_template: bool | str = False) -> str | None:  # noqa: ARG002
        """Return the chat template, by role, as JSON; the model has one."""
        return json.dumps(dict(self.model.bundle.chat_template), ensure_ascii=False)

    @property
    def tokenizer_name(self) -> str:
        """A name that is another one for another tokenizer or chat template."""
        bundle = self.model.bundle
        tokenizer = bundle.files["tokenizer.json"].sha256[:16]
        return f"{bundle.source.get('name')}-{tokenizer}-{bundle.chat_template['generation']!r}"

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval's results say of the model."""
        source = {name: value for name, value in self.model.bundle.source.items() if value is not None}
        how = {"method": self._method, "seed": self._seed, **self._options}
        if self._method == "elbo":
            how["samples"] = self._samples
        return {
            "bundle": source,
            "runs": repr(self.model.forward),
            "context_length": self.model.bundle.context_length,
            **how,
        }

    def _batches(self, requests: Sequence[Any]) -> Iterator[list[Any]]:
        """Yield the requests, some at a time."""
        rest = iter(requests)
        while batch := list(islice(rest, self._batch)):
            yield batch

    def _scores(self, texts: Sequence[str], contexts: str | Sequence[str], begin: int, total: int) -> list[Score]:
        """Return the scores of some texts, the first of which is number `begin` of `total`."""
        work = self.model.scoring(list(texts), contexts, seed=(self._seed + begin) % 2**64, **self._scoring)
        stage = f"scoring {total} texts by {self._method}"
        return finished(work, lambda done: self._progress(stage, (begin + done * len(texts)) / total))

    def _greedy(self, contexts: Sequence[str], texts: Sequence[str], scores: Sequence[Score]) -> list[bool]:
        """Return whether the sampler at temperature 0 writes each text after its context."""
        found = [not score.tokens for score in scores]
        asked = [i for i, score in enumerate(scores) if score.tokens and not score.context_cut and self._fits(score)]
        whole = {i: self.model.tokenizer.encode(contexts[i] + texts[i]) for i in asked}
        sequences = [
            self._raw(whole[i][: -scores[i].tokens], temperature=0.0, max_new_tokens=scores[i].tokens) for i in asked
        ]
        for i, step in zip(asked, self._run(sequences), strict=True):
            found[i] = step.ids.tolist() == whole[i]
        return found

    def _fits(self, score: Score) -> bool:
        return score.context_tokens + score.tokens <= self.model.bundle.context_length

    def _answering(self, request: Any, repeat: int) -> sequence.Sequence:
        """Return the sequence of a request to generate an answer."""
        prompt, given = request.args
        defaults = {"max_new_tokens": self.model.config().max_new_tokens, "seed": self._seed} | self._options
        options = generation_options(given, defaults)
        options["seed"] = (options["seed"] + repeat) % 2**64
        ids = self.model.tokenizer.encode(prompt)
        room = self.model.bundle.context_length - options["max_new_tokens"]
        if room < min(1, len(ids)):
            raise OptionError(
                f"{request.task_name}: max_gen_toks={options['max_new_tokens']} leaves no room for a prompt in the "
                f"model's context of {self.model.bundle.context_length} tokens; set a smaller one with gen_kwargs"
            )
        cut = max(0, len(ids) - room)
        self.fits.note(request, cut)
        return self._raw(ids[cut:], **options)

    def _answer(self, step: sequence.Step, prompt: str, given: Mapping[str, Any]) -> str:
        """Return an answer, given its last step; after a prompt in the chat template without the white space around it.

        It is cut here, since the sampler cuts at the first of its stop strings that is complete.
        """
        config = self.model.config(stop=())
        text = before_stops(self.model.extract_answer(step.ids, step.start, config, template=False), stops(given))
        return text.strip() if prompt.endswith(self.model.bundle.chat_template["generation"]) else text

    def _raw(self, ids: Sequence[int], **options: Any) -> sequence.Sequence:
        return self.model.raw_sequence(ids, **(self._options | options))

    def _run(self, sequences: Sequence[sequence.Sequence]) -> list[sequence.Step]:
        """Return the last step of each sequence."""
        most = batch_size(self.model.forward, self._batch)
        last = dict(run(self.model.engine, sequences, most))  # each step replaces the one before
        return [last[i] for i in range(len(sequences))]


def _unseen(stage: str, done: float) -> None:
    """Report progress to nobody."""


def _checked_batch(size: int | str) -> int:
    """Return how many requests are worked on together; lm-eval passes text on from its command line."""
    try:
        number = int(size)
    except ValueError:
        number = 0
    if number < 1 or isinstance(size, bool):
        raise OptionError(f"batch_size={size!r}: must be an integer from 1")
    return number
