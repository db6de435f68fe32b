"""Evaluate a model on tasks: those of this package, of lm-eval, and of the user's own files."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from diffutron_ort.brief import brief, in_brief
from diffutron_ort.errors import DiffutronError, OptionError
from diffutron_ort.extras import needing
from diffutron_ort.integrations.lm_eval import BATCH
from diffutron_ort.integrations.lm_eval.adapter import DiffutronLM
from diffutron_ort.integrations.lm_eval.report import Report
from diffutron_ort.model import Diffutron
from diffutron_ort.scoring.options import SAMPLES
from diffutron_ort.types import Progress

with needing("eval", "an evaluation"):
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

TASKS = Path(str(resources.files(__package__))) / "tasks"
RESAMPLED = 1000  # times, for the standard error of metrics without a formula; lm-eval's 100,000 take minutes


def task_names(include: str | Path | None = None) -> list[str]:
    """Return the names of this package's tasks and groups, and of those in the folder `include`."""
    names: list[str] = _manager(include, None, all_of_them=False).all_tasks
    return names


def evaluate(
    model: Diffutron,
    tasks: Sequence[str],
    *,
    method: str = "policy",
    samples: int = SAMPLES,
    seed: int = 0,
    limit: float | None = None,
    batch_size: int = BATCH,
    data: str | Path | None = None,
    include: str | Path | None = None,
    apply_chat_template: bool = False,
    gen_kwargs: str | dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Return the results of a model on tasks.

    Args:
        model: The model.
        tasks: Names of tasks, groups or tags: of this package, of `include`, or else of lm-eval.
        method: Of `Diffutron.score`.
        samples: Of the method `elbo`.
        seed: Of what is drawn.
        limit: The most documents of a task; below 1, a share of them. None is all.
        batch_size: Requests that are worked on together.
        data: The folder with the rows of this package's tasks, as JSON lines; None reads them from the Hub.
        include: A folder with task files of lm-eval's form.
        apply_chat_template: Whether to put prompts into the model's chat template.
        gen_kwargs: Overrides the tasks' own, as for lm-eval.
        progress: Called with what is being done, and how much of it is done, from 0 to 1.

    Raises:
        OptionError: There is no such task, or another argument is not allowed.
        InputError: A row of a task is missing, or not what it should be.
        DiffutronError: As for `Diffutron.score`; or a task cannot be loaded or evaluated by lm-eval.
    """
    begun = time.monotonic()
    asked = {"limit": limit, "apply_chat_template": apply_chat_template, "gen_kwargs": gen_kwargs}
    lm = DiffutronLM(model, method=method, samples=samples, seed=seed, batch_size=batch_size, progress=progress)
    with _of_our_family():
        found = _loaded(tasks, include, None if data is None else str(data))
        results = _results(lm, found, asked)
    fits = {task.task_name: lm.fits.of(task.task_name) for task in _leaves(found)}
    return Report(results, fits, lm.get_model_info() | asked, time.monotonic() - begun)


def _results(lm: DiffutronLM, found: Any, asked: Mapping[str, Any]) -> Any:
    """Return lm-eval's results on tasks and groups."""
    lm.check_greedy = any(map(_needs_greedy, _leaves(found)))
    with _without_git():
        return evaluator.simple_evaluate(
            lm,
            tasks=_roots(found),
            log_samples=False,
            bootstrap_iters=RESAMPLED,
            task_manager=TaskManager(include_defaults=False),
            **asked,
        )


@contextmanager
def _of_our_family() -> Iterator[None]:
    """Turn what lm-eval or a task file raises into an error of ours."""
    try:
        yield
    except DiffutronError:
        raise
    except Exception as error:  # a task file can do anything
        raise DiffutronError(f"lm-eval cannot evaluate this: {type(error).__name__}: {in_brief(error)}") from error


@contextmanager
def _without_git() -> Iterator[None]:
    """Keep lm-eval from asking git what is checked out where it runs, which fails on standard error elsewhere."""
    kept, evaluator.get_git_commit_hash = evaluator.get_git_commit_hash, lambda: None
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = kept


def _loaded(names: Sequence[str], include: str | Path | None, data: str | None) -> Any:
    """Return tasks and groups with their rows."""
    manager = _manager(include, data, all_of_them=False)
    if not set(names) <= set(manager.all_tasks):
        manager = _manager(include, data, all_of_them=True)  # which takes ten seconds
    for name in names:
        if name not in manager.all_tasks:
            raise OptionError(_unknown(name, manager.all_tasks))
    try:
        return manager.load(list(dict.fromkeys(names)))
    except ValueError as error:
        raise error if isinstance(error, DiffutronError) else OptionError(f"tasks: {in_brief(error)}") from error


def _manager(include: str | Path | None, data: str | None, all_of_them: bool) -> Any:
    """Return lm-eval's index of this package's tasks and the user's, and of its own if asked."""
    if include is not None and not Path(include).is_dir():
        raise OptionError(f"include={brief(str(include))}: must be a folder with task files")
    folders = [TASKS] if include is None else [TASKS, Path(include)]
    metadata = {} if data is None else {"data": data}
    return TaskManager(include_path=folders, include_defaults=all_of_them, metadata=metadata)


def _unknown(name: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches  # only an error needs it

    near = [known for known in names if name and known.startswith(name)][:3] or get_close_matches(name, names, 3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"there is no task {brief(name)}: {meant}diffutron-ort eval --list shows the tasks"


def _leaves(found: Any) -> list[Any]:
    """Return the tasks of all groups."""
    return list(found["tasks"].values())


def _roots(found: Any) -> list[Any]:
    """Return the groups that are in no other, and the tasks that are in none."""
    groups = found["groups"].values()
    inner = {id(item) for group in groups for item in [*group.get_all_groups(), *group.get_all_tasks()]}
    return [item for item in [*groups, *found["tasks"].values()] if id(item) not in inner]


def _needs_greedy(task: Any) -> bool:
    """Return whether a metric of a task asks what the sampler would write itself."""
    metrics = [metric.get("metric") for metric in task.get_config("metric_list") or []]
    return task.OUTPUT_TYPE == "loglikelihood" or (task.OUTPUT_TYPE == "multiple_choice" and "exact_match" in metrics)
