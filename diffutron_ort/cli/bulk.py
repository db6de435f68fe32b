"""Answer a file of prompts, show how far that is, and say what became of it."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffutron_ort.bulk.answering import Terms
from diffutron_ort.bulk.job import Job, State, run
from diffutron_ort.bulk.lines import STREAM
from diffutron_ort.bulk.records import PROMPT
from diffutron_ort.cli.loading import demonstration, loading_arguments, located
from diffutron_ort.cli.rate import rate
from diffutron_ort.cli.terminal import DONE, FAILED, say


def run_bulk(arguments: argparse.Namespace, options: Mapping[str, Any]) -> int:
    """Answer the file, and return the exit code: 1 if a line failed."""

    def find() -> Path:
        if arguments.model is None:
            say(demonstration())
        return located(arguments.model, arguments.revision, arguments.variant)

    job = _job(arguments, options)
    with rate() as report:
        try:
            state = run(job, find, report)
        except (KeyboardInterrupt, SystemExit):
            if job.target != STREAM:
                say("interrupted; the same command goes on from here")
            raise
    if state is None:
        say(f"{job.target} is there and no run of it is unfinished, so it is done; --restart writes it anew")
        return DONE
    say(_summary(state, job.target))
    return FAILED if state.failed else DONE


def _job(arguments: argparse.Namespace, options: Mapping[str, Any]) -> Job:
    loading = loading_arguments(arguments)
    return Job(
        source=arguments.source,
        target=arguments.target,
        kind=arguments.kind,
        terms=Terms(
            column=arguments.column or PROMPT,
            template=arguments.template,
            preset=arguments.preset,
            options=options,
        ),
        variant=arguments.variant,
        loading={name: loading[name] for name in ("providers", "threads", "spin")},
        processes=1 if arguments.processes is None else arguments.processes,
        restart=arguments.restart,
    )


def _summary(state: State, target: str) -> str:
    where = "" if target == STREAM else f" in {target}"
    lines = "1 line" if state.lines == 1 else f"{state.lines} lines"
    if not state.failed:
        return f"{lines} answered{where}"
    return f"{state.failed} of {lines} failed{where}: each of these has its error"
