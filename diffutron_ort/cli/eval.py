"""`diffutron-ort eval`: evaluate a model on tasks of lm-evaluation-harness."""

import argparse
import json
import logging
import os
from collections.abc import Sequence
from math import inf

from diffutron_ort.cli.flags import add_model
from diffutron_ort.cli.loading import REAL, load_model, shown_if_slow
from diffutron_ort.cli.parser import Parser, filled, integer, number
from diffutron_ort.cli.writing import check_writable, print_table, write_text
from diffutron_ort.errors import OptionError
from diffutron_ort.extras import needing
from diffutron_ort.integrations.lm_eval import BATCH
from diffutron_ort.scoring.options import OPTIONS as METHODS
from diffutron_ort.scoring.options import SAMPLES

QUIET = {"TQDM_DISABLE": "1", "DISABLE_MULTIPROC": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""For lm-eval and what it imports: no bars of its own, no processes for standard errors, no word to the Hub."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--tasks", type=filled, action="append", metavar="NAMES", help="tasks or groups, with commas between them"
    )
    parser.add_argument("--list", action="store_true", help="list the tasks and groups that come with the package")
    parser.add_argument("--output", type=filled, metavar="FILE", help="write all results to a file as JSON")
    _add_rows(parser)
    _add_method(parser)
    add_model(parser, "model", nargs="?")


def _add_rows(parser: Parser) -> None:
    """Add the flags about what tasks ask."""
    group = parser.add_argument_group("tasks")
    data = "folder with the tasks' rows as JSON lines (default: the Hub)"
    group.add_argument("--data", type=filled, metavar="DIR", help=data)
    include = "folder with more task files of lm-eval's form"
    group.add_argument("--include", type=filled, metavar="DIR", help=include)
    limit = "the most documents of a task; below 1, a share of them"
    group.add_argument("--limit", type=number, metavar="N", help=limit)
    template = "put prompts into the model's chat template"
    group.add_argument("--apply-chat-template", action="store_true", help=template)
    generation = "override how tasks generate, as lm-eval's flag does"
    group.add_argument("--gen-kwargs", type=filled, metavar="K=V,...", help=generation)


def _add_method(parser: Parser) -> None:
    """Add the flags about how likelihoods are worked out."""
    group = parser.add_argument_group("likelihoods")
    methods = ", ".join(METHODS)
    group.add_argument("--method", type=filled, default="policy", help=f"one of {methods} (default: policy)")
    samples = f"samples of the method elbo (default: {SAMPLES})"
    group.add_argument("--samples", type=integer, default=SAMPLES, metavar="N", help=samples)
    group.add_argument("--seed", type=integer, default=0, metavar="N", help="seed of what is drawn (default: 0)")
    batch = f"requests at a time (default: {BATCH})"
    group.add_argument("--batch", type=integer, default=BATCH, metavar="N", help=batch)


def run(arguments: argparse.Namespace) -> None:
    """Print a table of results.

    Raises:
        OptionError: A flag's value is not allowed.
        DiffutronError: The extra `[eval]` is missing, or an evaluation fails.
    """
    _prepare(offline=arguments.data is not None)
    with needing("eval", "diffutron-ort eval"):
        from diffutron_ort.integrations.lm_eval.evaluation import evaluate, task_names
    if arguments.list:
        print("\n".join(task_names(arguments.include)))
        return
    names, limit = _checked(arguments), _limit(arguments.limit)
    model = load_model(arguments, real=f"diffutron-ort eval {REAL}")
    with shown_if_slow() as progress:
        report = evaluate(
            model,
            names,
            method=arguments.method,
            samples=arguments.samples,
            seed=arguments.seed,
            limit=limit,
            batch_size=arguments.batch,
            data=arguments.data,
            include=arguments.include,
            apply_chat_template=arguments.apply_chat_template,
            gen_kwargs=arguments.gen_kwargs,
            progress=progress,
        )
    if arguments.output is not None:
        write_text(arguments.output, json.dumps(report.as_json(), ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    print_table(report.table())
    print("\n" + "\n".join(report.summary()))


def _prepare(offline: bool) -> None:
    """Before lm-eval is imported, keep it and what it imports from printing and looking up more than is asked for."""
    for name, value in {**QUIET, **(OFFLINE if offline else {})}.items():
        os.environ.setdefault(name, value)
    for name in ("lm_eval", "huggingface_hub", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _checked(arguments: argparse.Namespace) -> Sequence[str]:
    """Return the names of the tasks.

    Raises:
        OptionError: There is none, or another flag's value is not allowed.
    """
    names = [name.strip() for given in arguments.tasks or () for name in given.split(",") if name.strip()]
    if not names:
        raise OptionError("give the tasks: --tasks cetvel_tr, for example; --list shows their names")
    if arguments.output is not None:
        check_writable(arguments.output)
    return names


def _limit(given: float | None) -> float | None:
    """Return the most documents of a task, or the share of them.

    Raises:
        OptionError: It is neither.
    """
    if given is not None and not 0 < given < inf:
        raise OptionError(f"--limit {given:g}: must be a finite number above 0")
    return int(given) if given is not None and given >= 1 else given
