"""`diffutron-ort score`: say how likely a text is."""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diffutron_ort.cli.figures import finite, uncertain
from diffutron_ort.cli.flags import add_model, add_options, given_options
from diffutron_ort.cli.loading import load_model
from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.progress import one_line
from diffutron_ort.cli.reading import read_text
from diffutron_ort.cli.scoring_flags import IGNORED, add_scoring, described, scoring_arguments
from diffutron_ort.cli.terminal import say
from diffutron_ort.cli.working import worked
from diffutron_ort.cli.writing import print_json, print_table
from diffutron_ort.model import Diffutron
from diffutron_ort.scoring.options import SAMPLES
from diffutron_ort.scoring.score import Score


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.text = "text"
    text = "the text, in quotes, after -- if it begins with a dash; - reads standard input (default: -)"
    parser.add_argument("text", nargs="?", default="-", help=text)
    parser.add_argument("--context", default="", metavar="TEXT", help="what stands before it, and is not scored")
    template = "score the text as the whole answer to the context, which is put into the chat template"
    parser.add_argument("--template", action="store_true", help=template)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object, with everything")
    shown.add_argument("--tokens", action="store_true", help="print a line for each token: piece, tab, log-probability")
    add_scoring(parser, "policy", SAMPLES)
    add_model(parser)
    add_options(parser, IGNORED)


def run(arguments: argparse.Namespace) -> None:
    """Print the figures, a line for each token, or JSON."""
    options = given_options(arguments)
    text = read_text(arguments.text, "text")
    model = load_model(arguments, arguments.preset, **options)
    how = {**scoring_arguments(arguments), **options}
    begun = time.perf_counter()
    work = model.scoring(text, arguments.context, template=arguments.template, **how)
    [score] = worked(work, "scoring")
    seconds = time.perf_counter() - begun
    _say_remarks(score, model)
    if arguments.json:
        print_json(_result(score, model, seconds, how))
    elif arguments.tokens:
        for token, logprob in zip(score.ids.tolist(), score.logprobs.tolist(), strict=True):
            print(f"{one_line(model.tokenizer.piece(token))}\t{logprob:.4f}")
    else:
        print_table(figures(score))


def figures(score: Score) -> list[Sequence[str]]:
    """Return the figures of a score in words."""
    perplexity, error, size = score.perplexity, score.standard_error, score.tokens
    per_token = error / size if error is not None and size else None
    per_byte = error / math.log(2) / score.bytes if error is not None and score.bytes else None
    of_perplexity = perplexity * per_token if perplexity is not None and per_token is not None else None
    return [
        ("log-probability", f"{uncertain(score.logprob, error)} nats"),
        ("tokens", f"{size:,}"),
        ("nats a token", uncertain(score.nats_per_token, per_token)),
        ("bits a byte", uncertain(score.bits_per_byte, per_byte)),
        ("perplexity", uncertain(perplexity, of_perplexity)),
    ]


def _say_remarks(score: Score, model: Diffutron) -> None:
    """Say what a reader of the figures should know."""
    if score.joined:
        piece = one_line(model.tokenizer.piece(int(score.ids[0])))
        say(f"the tokenizer joins the context and the text to one token, {piece!r}, which is scored with the text")
    if score.context_cut:
        say(f"the context is too long: the model did not see the first {score.context_cut} of its tokens")
    if score.logprob == -math.inf:
        say("the model cannot write all of these tokens, so the text is impossible for it: see --tokens")


def _result(score: Score, model: Diffutron, seconds: float, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `--json` prints; what is infinite is null there."""
    return {
        **described(model, how),
        "logprob": finite(score.logprob),
        "standard_error": finite(score.standard_error),
        "tokens": score.tokens,
        "nats_per_token": finite(score.nats_per_token),
        "bits_per_byte": finite(score.bits_per_byte),
        "perplexity": finite(score.perplexity),
        "bytes": score.bytes,
        "joined": score.joined,
        "context_tokens": score.context_tokens,
        "context_cut": score.context_cut,
        "ids": score.ids.tolist(),
        "pieces": [model.tokenizer.piece(token) for token in score.ids.tolist()],
        "logprobs": [finite(logprob) for logprob in score.logprobs.tolist()],
        "passes": score.passes,
        "seconds": round(seconds, 4),
        "model": dict(model.bundle.source),
    }
