"""What the server answers: OpenAI's objects, and what the model adds to them."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

FinishReason = Literal["stop", "length"]


class TopLogprob(Struct):
    """One of the tokens that the model found best at a position."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer, with the best ones of its position, in the step that committed it."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct):
    """The log-probabilities of a chat's choice."""

    content: list[TokenLogprob]


class CompletionLogprobs(Struct):
    """The log-probabilities of a completion's choice, one for each token of its text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Usage(Struct):
    """The tokens of a request and of its answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Figures(Struct):
    """What the generation of a choice took, and how sure the model was of it."""

    steps: int
    full_passes: int
    cached_passes: int
    masks_left: int
    mean_confidence: float | None
    least_confidence: float | None


class Said(Struct):
    """The message of an answer."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(Struct):
    """One answer to a chat."""

    index: int
    message: Said
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None
    diffutron: Figures


class ChatCompletion(Struct):
    """The answer to a chat."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"


class CompletionChoice(Struct):
    """One completion of a prompt."""

    index: int
    text: str
    finish_reason: FinishReason
    logprobs: CompletionLogprobs | None
    diffutron: Figures


class TextCompletion(Struct):
    """The completions of one or several prompts."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage
    object: Literal["text_completion"] = "text_completion"


class Delta(Struct, omit_defaults=True):
    """What a chunk adds to a message; with `diffusing`, its `content` is the whole text so far."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(Struct):
    """A chunk's part of one answer."""

    index: int
    delta: Delta
    finish_reason: FinishReason | None = None
    logprobs: ChatLogprobs | None = None


class CompletionChunkChoice(Struct):
    """A chunk's part of one completion."""

    index: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: CompletionLogprobs | None = None


class Diffusing(Struct):
    """The canvas after a step, where a stream was asked to be `diffusing`."""

    step: Annotated[int, Meta(description="Number of the step, from 1; 0 before the first.")]
    block: Annotated[int, Meta(description="Number of the active block, from 0.")]
    masks: Annotated[int, Meta(description="Masks left on the canvas.")]
    length: Annotated[int, Meta(description="Number of places in the generated span.")]
    positions: Annotated[list[int], Meta(description="The places that the step filled, in the span, from 0.")]
    tokens: Annotated[list[str], Meta(description="What it put there.")]
    confidence: Annotated[list[float], Meta(description="The probability that the model gave to each.")]
    beyond: Annotated[int | None, Meta(description="The first place after the answer's end, once that is known.")]
    full: Annotated[bool, Meta(description="Whether the step's pass computed every token.")]


class ChatChunk(Struct):
    """A piece of a streamed chat."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    diffutron: Diffusing | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class CompletionChunk(Struct):
    """A piece of a streamed completion."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    diffutron: Diffusing | UnsetType = UNSET
    object: Literal["text_completion"] = "text_completion"


class TokenScore(Struct):
    """How likely one token of a text is; null stands for a probability of 0."""

    id: int
    token: str
    logprob: float | None


class TextScore(Struct):
    """How likely a text is. A figure is null where it would be infinite, or where it is a mean over nothing."""

    index: int
    possible: Annotated[bool, Meta(description="False where the model cannot write the text: then logprob is null.")]
    logprob: Annotated[float | None, Meta(description="In nats.")]
    tokens: int
    bytes: int
    nats_per_token: float | None
    perplexity: float | None
    bits_per_byte: float | None
    standard_error: Annotated[float | None, Meta(description="Of logprob; null for the methods that are exact.")]
    joined: Annotated[bool, Meta(description="Whether the first token also holds the end of the context.")]
    context_tokens: Annotated[int, Meta(description="Tokens before the text that the model saw.")]
    context_cut: Annotated[int, Meta(description="Tokens of the context that did not fit.")]
    passes: int
    token_logprobs: list[TokenScore]


class ScoreList(Struct):
    """The scores of one or several texts."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    scores: list[TextScore]
    usage: Usage
    object: Literal["score"] = "score"


class YesNoAnswer(Struct, tag_field="type", tag="noul"):
    """The answer to a question whose answer is yes or no."""

    noul: Annotated[float, Meta(ge=0, le=1, description="The probability of yes.")]


Probabilities = dict[str, float]
Confidence = Annotated[
    float, Meta(ge=0, le=1, description="0 where all answers are as likely, 1 where one of them is certain.")
]


class ChoiceAnswer(Struct, tag_field="type", tag="choice"):
    """The answer to a question whose answer is one of several."""

    choice: str
    confidence: Confidence
    probabilities: Annotated[Probabilities, Meta(description="Of each answer; they sum to 1.")]


class ScaleAnswer(Struct, tag_field="type", tag="score"):
    """The answer to a question whose answer is one of several levels in order."""

    score: Annotated[float, Meta(description="The mean of the levels' numbers, which are 0, 1, …")]
    confidence: Confidence
    legend: Annotated[dict[str, str], Meta(description="The levels by their numbers.")]
    probabilities: Annotated[Probabilities, Meta(description="Of each level, by its number; they sum to 1.")]


class Tokens(Struct):
    """The tokens of the questions; none is written."""

    input_tokens: int
    output_tokens: int = 0


class Decisions(Struct):
    """The answers to typed questions, by the names of these."""

    model: str
    answers: dict[str, YesNoAnswer | ChoiceAnswer | ScaleAnswer]
    usage: Tokens


class Model(Struct):
    """The model that is served, with what a client may want to know of it."""

    id: str
    created: int
    diffutron: dict[str, Any]
    object: Literal["model"] = "model"
    owned_by: str = "diffutron-ort"


class ModelList(Struct):
    """The models that are served: one."""

    data: list[Model]
    object: Literal["list"] = "list"


class ErrorDetail(Struct):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None
    code: str


class Error(Struct):
    """The answer to a request that cannot be answered."""

    error: ErrorDetail


class State(Struct):
    """Whether the server takes requests."""

    status: Literal["loading", "ready", "draining", "failed"]
