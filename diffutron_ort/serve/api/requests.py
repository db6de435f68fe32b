"""What a request may hold: its fields, their bounds, and which values of OpenAI's can be taken."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

from msgspec import Meta, Struct, field, structs

from diffutron_ort.choosing.chooser import NORMALISATIONS
from diffutron_ort.choosing.question import MOST_OPTIONS
from diffutron_ort.config import MOST_TOKENS, OPTION_NAMES, PRESETS
from diffutron_ort.scoring.options import MOST_SAMPLES, OF_A_GENERATION, SAMPLES
from diffutron_ort.scoring.options import OPTIONS as METHODS

MOST_MESSAGES = 1024
MOST_PARTS = 64  # of a message's content
MOST_CHOICES = 64  # prompts, and choices of a prompt
MOST_STOPS, MOST_STOP = 16, 1000  # stop strings, and characters of one
MOST_IDS = 4096  # in an option that lists token ids
MOST_BEST = 20  # of `top_logprobs`
MOST_QUESTIONS = 64

Name = Annotated[str, Meta(max_length=200)]
Role = Annotated[str, Meta(max_length=20, description="system (or developer), user or assistant.")]
Method = Annotated[str, Meta(pattern=f"^({'|'.join(METHODS)})$")]
Normalisation = Annotated[str, Meta(pattern=f"^({'|'.join(NORMALISATIONS)})$")]
Samples = Annotated[int, Meta(ge=2, le=MOST_SAMPLES)]
Choices = Annotated[int, Meta(ge=1, le=MOST_CHOICES)]
Best = Annotated[int, Meta(ge=0, le=MOST_BEST)]
Tokens = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
TokenId = Annotated[int, Meta(ge=0)]


class Part(Struct):
    """A part of a message's content; text is the only type that the model understands."""

    type: Annotated[str, Meta(max_length=50)]
    text: str = ""


Parts = Annotated[list[Part], Meta(max_length=MOST_PARTS)]


class Message(Struct):
    """A message; its name, if it has one, is ignored."""

    role: Role
    content: str | Parts


Messages = Annotated[list[Message], Meta(min_length=1, max_length=MOST_MESSAGES)]


class StreamOptions(Struct):
    """How a stream ends."""

    include_usage: Annotated[bool, Meta(description="Whether a last chunk tells the usage.")] = False


class Body(Struct, kw_only=True):
    """The fields of every request.

    Attributes:
        OPTIONS: Of a generation, those that are fields, too.
    """

    OPTIONS: ClassVar[frozenset[str]] = OPTION_NAMES

    model: Annotated[Name | None, Meta(description="The name in /v1/models.")] = None
    preset: Annotated[
        Annotated[str, Meta(extra_json_schema={"enum": [*PRESETS]})] | None,
        Meta(description="Several options by one name; those that are sent as well override it."),
    ] = None
    user: Annotated[Annotated[str, Meta(max_length=1000)] | None, Meta(description="Of no effect.")] = None

    def unknown_within(self, given: Mapping[str, Any]) -> set[str]:  # noqa: ARG002
        """Return the names of fields within fields of a body that have no meaning, as `outer.inner`."""
        return set()


class Common(Body, kw_only=True):
    """The fields of both kinds of request for text."""

    stream: Annotated[bool, Meta(description="Whether the answer comes in pieces, as server-sent events.")] = False
    stream_options: Annotated[
        StreamOptions | None, Meta(description="With include_usage: true, a stream's last chunk tells the usage.")
    ] = None
    diffusing: Annotated[
        bool, Meta(description="In a stream: each chunk holds the whole text so far, in place of the one before.")
    ] = False
    n: Annotated[Choices, Meta(description="Choices for each prompt; choice i has the seed + i.")] = 1
    best_of: Annotated[
        Choices | None,
        Meta(description="Answers to write for each prompt, of which the n are returned that the model is surest of."),
    ] = None
    max_tokens: Annotated[Tokens | None, Meta(description="Another name of max_new_tokens.")] = None

    @property
    def written(self) -> int:
        """The number of answers that are written for each prompt."""
        return self.best_of or self.n


class JsonSchema(Struct):
    """The object that an answer is to be."""

    schema: Annotated[
        dict[str, Any],
        Meta(description="A flat object: strings, integers, numbers, booleans, null, enum, const, and anyOf of these."),
    ]
    name: Annotated[str, Meta(max_length=200, description="Of no effect.")] = ""
    strict: Annotated[bool | None, Meta(description="Of no effect: an answer always keeps to the schema.")] = None


class AnyText(Struct, tag_field="type", tag="text"):
    """An answer of any form."""


class SchemaFormat(Struct, tag_field="type", tag="json_schema"):
    """An answer that is an object of JSON."""

    json_schema: JsonSchema


class ChatRequest(Common, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[Messages, Meta(description="The conversation; the user's is last.")]
    max_completion_tokens: Annotated[Tokens | None, Meta(description="Another name of max_new_tokens.")] = None
    logprobs: Annotated[bool, Meta(description="Whether log-probabilities are wanted.")] = False
    top_logprobs: Annotated[Best | None, Meta(description="How many of the best tokens come with each token.")] = None
    response_format: Annotated[
        AnyText | SchemaFormat | None, Meta(description="text, or the json_schema that the answer keeps to.")
    ] = None


Prompts = Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]


class CompletionRequest(Common, kw_only=True):
    """The body of POST /v1/completions."""

    prompt: Annotated[
        str | Prompts,
        Meta(description="Raw text, which is continued; or token ids; or a list of texts and of lists of token ids."),
    ]
    suffix: Annotated[str | None, Meta(description="Text after the completion.")] = None
    logprobs: Annotated[
        Best | None,
        Meta(description="That log-probabilities are wanted, and how many of the best come with each token."),
    ] = None


Texts = Annotated[list[str], Meta(min_length=1, max_length=MOST_CHOICES)]


class ScoreRequest(Body, kw_only=True):
    """The body of POST /v1/score."""

    OPTIONS: ClassVar[frozenset[str]] = OPTION_NAMES - OF_A_GENERATION

    text: Annotated[str | Texts, Meta(description="A text to score, or several.")]
    context: Annotated[
        str | Messages,
        Meta(description="What stands before each text; with template, a user's prompt or messages."),
    ] = ""
    method: Annotated[
        Method,
        Meta(description="policy (exact, under the sampler at temperature 0), elbo (a bound), or pll or pll_word_l2r."),
    ] = "policy"
    template: Annotated[bool, Meta(description="Whether a text is the whole answer to its context.")] = False
    samples: Annotated[Samples, Meta(description="Of the method elbo.")] = SAMPLES
    stride: Annotated[Tokens | None, Meta(description="The most tokens that a later window of a long text scores.")] = (
        None
    )


Content = str | dict[str, Any] | list[Any]
Instructions = Annotated[Content | None, Meta(description="The question; what is no text is shown as JSON.")]


class YesNoCriteria(Struct, kw_only=True):
    """What counts as yes, and what as no."""

    yes: Annotated[Content | None, Meta(description="What counts as yes.")] = field(default=None, name="true")
    no: Annotated[Content | None, Meta(description="What counts as no.")] = field(default=None, name="false")


class YesNoQuestion(Struct, kw_only=True, tag_field="type", tag="noul"):
    """A question whose answer is yes or no."""

    instructions: Instructions = None
    criteria: YesNoCriteria | None = None


class ChoiceQuestion(Struct, kw_only=True, tag_field="type", tag="choice"):
    """A question whose answer is one of several."""

    criteria: Annotated[
        dict[str, Content | None],
        Meta(min_length=1, max_length=MOST_OPTIONS, description="The answers, and what each stands for, or null."),
    ]
    instructions: Instructions = None


class ScaleQuestion(Struct, kw_only=True, tag_field="type", tag="score"):
    """A question whose answer is one of several levels in order."""

    criteria: Annotated[list[Content], Meta(min_length=1, max_length=MOST_OPTIONS, description="The levels, in order.")]
    instructions: Instructions = None


TypedQuestion = YesNoQuestion | ChoiceQuestion | ScaleQuestion


class DecisionRequest(Body, kw_only=True):
    """The body of POST /v1/systemone."""

    OPTIONS: ClassVar[frozenset[str]] = frozenset()

    state: Annotated[Content, Meta(description="What all questions are about; what is no text is shown as JSON.")]
    questions: Annotated[
        dict[str, TypedQuestion],
        Meta(min_length=1, max_length=MOST_QUESTIONS, description="Questions by names that their answers have, too."),
    ]
    normalise: Annotated[Normalisation, Meta(description="What the log-likelihood of an answer is divided by.")] = (
        "none"
    )
    debias: Annotated[
        bool, Meta(description="Whether to average over orders of the answers, but for those of levels.")
    ] = False

    def unknown_within(self, given: Mapping[str, Any]) -> set[str]:
        """Return the names of fields of the questions, and of what counts as yes and no, that have no meaning."""
        found = set()
        for name, question in self.questions.items():
            asked = given["questions"][name]
            found |= {f"questions.{field}" for field in _unknown(asked, type(question), "type")}
            if isinstance(question, YesNoQuestion) and question.criteria is not None:
                found |= {f"questions.criteria.{field}" for field in _unknown(asked["criteria"], YesNoCriteria)}
        return found


@cache
def names_of(kind: type[Struct]) -> frozenset[str]:
    """Return the names of the fields of a kind of object, as JSON has them."""
    return frozenset(field.encode_name for field in structs.fields(kind))


def _unknown(given: Mapping[str, Any], kind: type[Struct], *more: str) -> Iterator[str]:
    """Yield the names of what is given, and is no field of its kind; what is null counts as absent."""
    known = names_of(kind).union(more)
    return (name for name, value in given.items() if value is not None and name not in known)


Request = TypeVar("Request", bound=Body)
Generated = TypeVar("Generated", bound=Common)


class Asked(NamedTuple, Generic[Request]):
    """A request, checked.

    Attributes:
        request: Its fields.
        options: The options of the generation that it sets.
        ignored: The names of fields that have no meaning here.
    """

    request: Request
    options: Mapping[str, Any]
    ignored: Sequence[str]


NEUTRAL: Mapping[str, Sequence[Any]] = MappingProxyType(
    {
        "top_p": (1,),
        "top_k": (0, -1),
        "min_p": (0,),
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "logit_bias": ({},),
        "echo": (False,),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "audio": (),
        "web_search_options": (),
    }
)
"""The fields of OpenAI's that would change an answer, and the values of each that leave it as it is."""
