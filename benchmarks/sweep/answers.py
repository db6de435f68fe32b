"""Answers and the passes behind them, kept as JSON lines so that a sweep can stop and go on."""

import json
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

from diffutron_ort import Diffutron
from diffutron_ort.text.stopping import Ends
from sweep.arithmetic import Pass
from sweep.hard import Exercise, hard_questions
from sweep.settings import EXACT, Group, Setting, finalists, settings


class Answer(NamedTuple):
    """What a model said, as text and as tokens up to the first `<pad>` or `<eos>`, and by which passes."""

    text: str
    tokens: list[int]
    passes: list[Pass]


class Job(NamedTuple):
    """A question that a variant answers under a setting."""

    variant: str
    options: Mapping[str, Any]
    question: str


class Store:
    """A file of answers; one line that was cut off is answered again.

    Args:
        path: The file, which need not be there.
        bundle: The model's folder. Answers are found by the hash of a variant's weights: others' do not count.
    """

    def __init__(self, path: Path, bundle: Path) -> None:
        self._path = path
        manifest = json.loads((bundle / "diffutron.json").read_text("utf-8"))
        weights = {name: variant["weights"] for name, variant in manifest["variants"].items()}
        self._hashes = {name: manifest["files"][file]["sha256"][:16] for name, file in weights.items()}
        self._answers = dict(self._read())

    def __contains__(self, job: Job) -> bool:
        return self.key(job) in self._answers

    def __getitem__(self, job: Job) -> Answer:
        return self._answers[self.key(job)]

    def key(self, job: Job) -> str:
        """Return what an answer is found by."""
        options = dict(sorted(job.options.items()))
        return json.dumps([self._hashes[job.variant], options, job.question], ensure_ascii=False)

    def add(self, job: Job, answer: Answer) -> None:
        """Keep an answer, in the file too."""
        key = self.key(job)
        self._answers[key] = answer
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([key, *answer], ensure_ascii=False) + "\n")

    def _read(self) -> Iterator[tuple[str, Answer]]:
        for line in self._path.read_text("utf-8").splitlines() if self._path.exists() else ():
            try:
                key, text, tokens, passes = json.loads(line)
            except ValueError:
                continue
            yield key, Answer(text, tokens, [Pass(*one) for one in passes])


class Plan(NamedTuple):
    """What is to be answered: the questions of a group under one setting."""

    group: Group
    variant: str
    setting: Setting
    exercises: list[Exercise]

    def jobs(self) -> list[Job]:
        """Return a job for each question."""
        options = {**self.group.options, **self.setting.options}
        return [Job(self.variant, options, exercise.question) for exercise in self.exercises]

    def exact(self, variant: str) -> Self:
        """Return the plan that this one is compared with."""
        return self._replace(variant=variant, setting=EXACT)


def exercises(group: Group, count: int) -> list[Exercise]:
    """Return the questions of a group."""
    from questions import questions  # of models/nano, whose folder `sweep.hard` makes known

    source = hard_questions(group.seed) if group.hard else questions(group.seed, "held-out")
    return list(islice(source, count))


def plans(groups: list[Group], variants: list[str], count: int) -> list[Plan]:
    """Return everything that is to be answered: all settings by the first variant, the finalists by the others."""
    found = []
    for group in groups:
        questions = exercises(group, count)
        for variant in variants:
            tried = settings() if group.every and variant == variants[0] else finalists()
            found += [Plan(group, variant, setting, questions) for setting in tried]
    return found


def answer(model: Diffutron, job: Job) -> Answer:
    """Answer a question with the preset `short`, the bundle's own options, and the job's."""
    steps = list(model.stream(job.question, preset="short", **job.options))
    last = steps[-1]
    tokens = Ends(model.bundle.special, []).answer(last.ids[last.start :]).tolist()
    passes = [Pass(len(step.ids), step.num_computed, step.num_predicted) for step in steps]
    return Answer(last.text, tokens, passes)


def work_off(plans: list[Plan], store: Store, bundle: Path, seconds: float) -> int:
    """Answer what is not in the store, for so many seconds, and return how many answers are still wanted."""
    left = {store.key(job): job for plan in plans for job in plan.jobs() if job not in store}
    todo, end = list(left.values()), time.monotonic() + seconds
    models: dict[str, Diffutron] = {}
    for done, job in enumerate(todo):
        if time.monotonic() > end:
            return len(todo) - done
        if job.variant not in models:
            models[job.variant] = Diffutron.from_pretrained(bundle, variant=job.variant)
        store.add(job, answer(models[job.variant], job))
    return 0
