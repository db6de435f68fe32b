"""POST /v1/systemone: a state and typed questions about it in, probabilities of the allowed answers out.

Requests and answers have the form of TypeSafe's System One API, which other servers have taken over.
"""

from diffutron_ort.brief import brief
from diffutron_ort.choosing.choice import Choice
from diffutron_ort.choosing.question import Question, about
from diffutron_ort.choosing.scale import Scale, level_values
from diffutron_ort.model import Diffutron
from diffutron_ort.scoring.work import Work
from diffutron_ort.serve.api.judging import Told, check_passes
from diffutron_ort.serve.api.kinds import Head
from diffutron_ort.serve.api.messages import refuse_tags
from diffutron_ort.serve.api.requests import (
    Asked,
    ChoiceQuestion,
    DecisionRequest,
    ScaleQuestion,
    TypedQuestion,
    YesNoQuestion,
)
from diffutron_ort.serve.api.responses import ChoiceAnswer, Decisions, ScaleAnswer, Tokens, YesNoAnswer
from diffutron_ort.serve.api.typed_questions import Put, put
from diffutron_ort.serve.settings import Settings

SEPARATOR = "\n- "  # between two answers where they are listed


class SystemOne:
    """Typed questions about a state."""

    request = DecisionRequest
    prefix = ""
    param = "questions"

    def work(self, model: Diffutron, asked: Asked[DecisionRequest], settings: Settings) -> Work[dict[str, Choice]]:
        """Return the work that answers the questions, which share passes."""
        request = asked.request
        all_put = {name: _put(name, one, request) for name, one in request.questions.items()}
        if not settings.allow_tags:
            refuse_tags(
                {f"question {brief(name)}": one.texts for name, one in all_put.items()}, model.bundle.chat_template
            )
        check_passes(sum(one.most_passes(model) for one in all_put.values()), settings, self.param)
        questions = {name: _question(name, one) for name, one in all_put.items()}
        return model.choosing_each(questions, normalise=request.normalise, preset=request.preset)

    def told(self, model: Diffutron, asked: Asked[DecisionRequest], result: dict[str, Choice], head: Head) -> Told:  # noqa: ARG002
        """Return the answers."""
        questions = asked.request.questions
        answers = {name: _answer(questions[name], choice) for name, choice in result.items()}
        tokens = sum(choice.scores[0].context_tokens for choice in result.values())
        return Told(Decisions(head.model, answers, Tokens(tokens)), tokens)


def _put(name: str, question: TypedQuestion, request: DecisionRequest) -> Put:
    """Return a question as it is put; an error names it."""
    with about(name):
        return put(request.state, question, request.debias)


def _question(name: str, asked: Put) -> Question:
    """Return a question for the model; an error names it."""
    with about(name):
        return Question(asked.prompt, asked.options, debias=asked.debias, separator=SEPARATOR)


def _answer(question: TypedQuestion, choice: Choice) -> YesNoAnswer | ChoiceAnswer | ScaleAnswer:
    """Return the answer to a question in its form."""
    probabilities = choice.probabilities.tolist()
    match question:
        case YesNoQuestion():
            return YesNoAnswer(probabilities[0])
        case ChoiceQuestion():
            named = dict(zip(choice.options, probabilities, strict=True))
            return ChoiceAnswer(choice.best, choice.confidence, named)
        case ScaleQuestion():
            mean = Scale(choice, level_values(None, len(probabilities))).mean
            numbers = [str(number) for number in range(len(probabilities))]
            legend = dict(zip(numbers, choice.options, strict=True))
            return ScaleAnswer(mean, choice.confidence, legend, dict(zip(numbers, probabilities, strict=True)))
