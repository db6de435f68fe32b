"""POST /v1/score: texts in, how likely each of them is out."""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from diffutron_ort.model import Diffutron
from diffutron_ort.scoring.passage import windows
from diffutron_ort.scoring.score import Score
from diffutron_ort.scoring.work import Work
from diffutron_ort.serve.api.judging import Told, check_passes, end_tokens, least_tokens
from diffutron_ort.serve.api.kinds import Head
from diffutron_ort.serve.api.logprobs import text_of
from diffutron_ort.serve.api.messages import conversation, refuse_tags
from diffutron_ort.serve.api.requests import Asked, ScoreRequest
from diffutron_ort.serve.api.responses import ScoreList, TextScore, TokenScore, Usage
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings
from diffutron_ort.text.tokenizer import Tokenizer

MOST_CHARACTERS = 2**18  # of texts, each with its context: more take seconds to encode
Context: TypeAlias = str | list[dict[str, str]]


class Scores:
    """Scores of texts."""

    request = ScoreRequest
    prefix = "score-"
    param = "text"

    def work(self, model: Diffutron, asked: Asked[ScoreRequest], settings: Settings) -> Work[list[Score]]:
        """Return the work that scores the texts."""
        request = asked.request
        context = request.context
        given = context if isinstance(context, str) else conversation(context, "context")
        if request.template and not settings.allow_tags:
            refuse_tags(_contents(given), model.bundle.chat_template)
        texts = _texts(request)
        _check_size(texts, given)
        guided = 2 if asked.options.get("cfg_scale") else 1  # guidance takes a second pass for each
        for tokens in (partial(least_tokens, model), partial(_tokens, model)):  # the first of them costs nothing
            check_passes(guided * _most_passes(model, request, texts, given, tokens), settings, self.param)
        return model.scoring(
            texts,
            given,
            method=request.method,
            template=request.template,
            samples=request.samples,
            stride=request.stride,
            preset=request.preset,
            **asked.options,
        )

    def told(self, model: Diffutron, asked: Asked[ScoreRequest], result: list[Score], head: Head) -> Told:  # noqa: ARG002
        """Return the scores."""
        scores = [_score(index, score, model.tokenizer) for index, score in enumerate(result)]
        tokens = sum(score.context_tokens + score.tokens for score in result)
        return Told(ScoreList(*head, scores=scores, usage=Usage(tokens, 0, tokens)), tokens)


def _tokens(model: Diffutron, text: str) -> int:
    return len(model.tokenizer.encode(text))


def _texts(request: ScoreRequest) -> list[str]:
    return [request.text] if isinstance(request.text, str) else request.text


def _contents(context: Context) -> dict[str, str]:
    """Return the texts of a context by their places in the request."""
    if isinstance(context, str):
        return {"context": context}
    return {f"context[{place}].content": message["content"] for place, message in enumerate(context)}


def _check_size(texts: list[str], context: Context) -> None:
    """Refuse a long context for many texts: it is encoded with each of them.

    Raises:
        ApiError: They are too long.
    """
    size = sum(map(len, texts)) + len(texts) * sum(map(len, _contents(context).values()))
    if size > MOST_CHARACTERS:
        message = f"the texts, each with the context, have {size} characters: at most {MOST_CHARACTERS}"
        raise ApiError(400, message, code="invalid_value", param="text")


def _most_passes(
    model: Diffutron, request: ScoreRequest, texts: list[str], context: Context, tokens: Callable[[str], int]
) -> int:
    """Return the number of passes that scores can take at most: those of a model that gives each canvas its own.

    Args:
        model: That scores.
        request: How.
        texts: What is scored.
        context: What stands before each.
        tokens: Returns the number of tokens of a text, or a lower bound.
    """
    end = end_tokens(model) if request.template else 0
    lengths = [tokens(text) + end for text in texts]
    if request.method != "elbo":
        return sum(lengths)
    before, most = sum(map(tokens, _contents(context).values())), model.bundle.context_length
    stride = min(request.stride or max(1, most // 2), most)
    return sum(request.samples * sum(1 for _ in windows(before + n, before, most, stride)) for n in lengths)


def _score(index: int, score: Score, tokenizer: Tokenizer) -> TextScore:
    tokens = [
        TokenScore(token, text_of(tokenizer, token), _finite(logprob))
        for token, logprob in zip(score.ids.tolist(), score.logprobs.tolist(), strict=True)
    ]
    return TextScore(
        index=index,
        possible=math.isfinite(score.logprob),
        logprob=_finite(score.logprob),
        tokens=score.tokens,
        bytes=score.bytes,
        nats_per_token=_finite(score.nats_per_token),
        perplexity=_finite(score.perplexity),
        bits_per_byte=_finite(score.bits_per_byte),
        standard_error=_finite(score.standard_error),
        joined=score.joined,
        context_tokens=score.context_tokens,
        context_cut=score.context_cut,
        passes=score.passes,
        token_logprobs=tokens,
    )


def _finite(figure: float | None) -> float | None:
    """Return a figure that JSON has, or None for one that it has not."""
    return figure if figure is not None and math.isfinite(figure) else None
