"""`diffutron-ort choose`: say how likely each of the given answers to a question is."""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diffutron_ort.choosing.choice import Choice
from diffutron_ort.choosing.chooser import NORMALISATIONS
from diffutron_ort.choosing.question import NO, YES
from diffutron_ort.choosing.scale import Scale
from diffutron_ort.cli.figures import finite
from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser, number
from diffutron_ort.cli.progress import one_line
from diffutron_ort.cli.reading import read_text
from diffutron_ort.cli.scoring_flags import IGNORED, add_scoring, described, scoring_arguments
from diffutron_ort.cli.working import worked
from diffutron_ort.cli.writing import print_json, print_table
from diffutron_ort.errors import OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort.scoring.options import NO_PENALTY, SAMPLES
from diffutron_ort.scoring.work import Work

DEFAULTS = {name: str(value) for name, value in NO_PENALTY.items()}
"""The defaults of `Diffutron.choosing`, in words."""


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    question = "the question, in quotes; {options} in it is where the answers are listed; - reads standard input"
    parser.add_argument("question", nargs="?", help=question)
    parser.add_argument("options", nargs="*", metavar="answer", help="the answers to choose from")
    more = "another answer, such as one that begins with a dash (may be given several times)"
    parser.add_argument("--option", action="append", default=[], metavar="ANSWER", dest="more", help=more)
    kind = parser.add_mutually_exclusive_group()
    yes_no = f"print the probability of yes alone; the answers are these two (default: {YES} and {NO})"
    kind.add_argument("--yes-no", nargs="*", metavar=("YES", "NO"), help=yes_no)
    kind.add_argument("--scale", nargs="+", metavar="LEVEL", help="the answers, in order; print their mean as well")
    values = "with --scale: the number of each level (default: 0, 1, …)"
    parser.add_argument("--values", nargs="+", type=number, metavar="N", help=values)
    debias = "average over orders of the answers, for which the question must have {options}"
    parser.add_argument("--debias", action="store_true", help=debias)
    separator = "what stands between two answers where they are listed (default: a comma and a space)"
    parser.add_argument("--separator", default=", ", metavar="TEXT", help=separator)
    normalise = "what the log-likelihood of an answer is divided by (default: none)"
    parser.add_argument("--normalise", choices=tuple(NORMALISATIONS), default="none", help=normalise)
    raw = "take the question as raw text, which an answer continues, instead of a user's message"
    parser.add_argument("--no-template", dest="template", action="store_false", help=raw)
    parser.add_argument("--json", action="store_true", help="print one JSON object, with everything")
    add_scoring(parser, "policy", SAMPLES, windows=False)
    add_model(parser)
    add_options(parser, IGNORED, DEFAULTS)


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each answer, the most likely first; or a number; or JSON."""
    given = given_options(arguments)
    answers = _answers(arguments)
    question = read_text(arguments.question, "question")
    model = load_model(arguments, arguments.preset, **given)
    how = {**scoring_arguments(arguments), **given}
    begun = time.perf_counter()
    found = worked(_work(model, question, answers, arguments, how), "choosing")
    seconds = time.perf_counter() - begun
    if arguments.json:
        put = {name: getattr(arguments, name) for name in ("normalise", "debias", "separator", "template")}
        print_json({**_described(model, how), **put, **_result(found), "seconds": round(seconds, 4)})
    elif arguments.yes_no is not None:
        print(f"{found.probabilities[0]:.4f}")
    else:
        print_table(_lines(found))


def _answers(arguments: argparse.Namespace) -> Sequence[str]:
    """Return the answers to choose from.

    Raises:
        OptionError: There are none, there is no question, or flags contradict each other.
    """
    if arguments.question is None:
        raise OptionError("there is no question: it comes first, since --yes-no and --scale take all that follows them")
    given, levels, yes_no = [*arguments.options, *arguments.more], arguments.scale, arguments.yes_no
    if arguments.values is not None and levels is None:
        raise OptionError("--values are those of --scale: add it, or leave them out")
    if levels is not None and arguments.debias:
        raise OptionError("--debias has no meaning with --scale, whose levels stand in order: leave one of them out")
    if given and not (levels is yes_no is None):
        raise OptionError("there are answers after the question and after a flag: give them in one place")
    if yes_no is not None and len(yes_no) not in (0, 2):
        raise OptionError(f"--yes-no takes two answers, the one for yes first, or none: there are {len(yes_no)}")
    if not given and levels is yes_no is None:
        raise OptionError("there is nothing to choose from: give the answers after the question, or --yes-no")
    return given or levels or yes_no or (YES, NO)


def _work(
    model: Diffutron, question: str, answers: Sequence[str], arguments: argparse.Namespace, how: Mapping[str, Any]
) -> Work[Choice | Scale]:
    """Return the work that chooses."""
    put = {name: getattr(arguments, name) for name in ("normalise", "separator", "template")}
    if arguments.scale is not None:
        return model.scaling(question, answers, values=arguments.values, **put, **how)
    return model.choosing(question, answers, debias=arguments.debias, **put, **how)


def _lines(found: Choice | Scale) -> list[Sequence[str]]:
    """Return a line for each answer: the most likely first, or the levels in order and their mean."""
    if isinstance(found, Scale):
        return [*((f"{p:.4f}", one_line(level)) for level, p in _pairs(found)), (f"{found.mean:.4f}", "(the mean)")]
    return [(f"{p:.4f}", one_line(option)) for option, p in sorted(_pairs(found), key=lambda pair: -pair[1])]


def _pairs(found: Choice | Scale) -> list[tuple[str, float]]:
    """Return the answers and their probabilities."""
    options = found.levels if isinstance(found, Scale) else found.options
    return [*zip(options, found.probabilities.tolist(), strict=True)]


def _described(model: Diffutron, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the answers were scored, the defaults included."""
    found = described(model, {**NO_PENALTY, **how})
    return {name: value for name, value in found.items() if name != "stride"}


def _result(found: Choice | Scale) -> dict[str, Any]:
    """Return what `--json` prints of a choice; what is infinite is null there."""
    choice = found.choice if isinstance(found, Scale) else found
    scores = zip(_pairs(choice), choice.scores, strict=True)
    return {
        "best": choice.best,
        "index": choice.index,
        "confidence": choice.confidence,
        "answers": [
            {"answer": option, "probability": p, "logprob": finite(score.logprob), "tokens": score.tokens}
            for (option, p), score in scores
        ],
        "by_order": choice.by_order.tolist(),
        "passes": choice.passes,
        **({"mean": found.mean, "values": found.values.tolist()} if isinstance(found, Scale) else {}),
    }
