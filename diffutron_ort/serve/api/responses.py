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
