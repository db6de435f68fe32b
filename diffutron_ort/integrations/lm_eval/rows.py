"""Load the rows of a task from a local file of JSON lines, or from the Hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from diffutron_ort.brief import brief, in_brief
from diffutron_ort.bulk.lines import decoded, open_lines
from diffutron_ort.errors import DiffutronError, InputError
from diffutron_ort.integrations.lm_eval.sources import SOURCES, Source

SPLIT = "test"  # what every task file calls the part that is evaluated


def load(source: str, data: str | None = None, **_: object) -> dict[str, Any]:
    """Return the rows of a source as a `datasets.Dataset`, by the name of the split.

    lm-eval calls it for `custom_dataset`, with a task's `dataset_kwargs` and `metadata` as keywords.

    Args:
        source: Its name.
        data: The folder with its file; None reads the Hub.

    Raises:
        InputError: The file is missing or cannot be read, or a row lacks a column or has a value that is not allowed.
        DiffutronError: The Hub cannot be read.
    """
    found = SOURCES[source]
    return {SPLIT: _from_hub(found) if data is None else _from_file(found, Path(data))}


def _from_file(source: Source, folder: Path) -> Any:
    path = folder / source.file
    rows = list(_rows(source, path))
    if not rows:
        raise InputError(f"{path} has no rows: each line is a JSON object with {source.layout}")
    return datasets.Dataset.from_list(rows)


def _rows(source: Source, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, with the source's columns alone; blank lines are passed over."""
    try:
        for number, line in enumerate(open_lines(str(path)), 1):
            if isinstance(line, InputError):
                raise InputError(f"{path}:{number} {line}")
            if line.strip():
                yield _row(source, line, f"{path}:{number}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(_missing(source, path)) from error
    except (OSError, ValueError) as error:  # ValueError: of ours, or the path holds a NUL
        raise error if isinstance(error, DiffutronError) else InputError(f"{path} cannot be read: {error}") from error


def _row(source: Source, line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(decoded(line))
        json.dumps(row, ensure_ascii=False).encode()  # raises for half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not a line of JSON: {in_brief(error)}") from error
    if not isinstance(row, dict):
        raise InputError(f"{place} is {brief(row)}: must be an object with {source.layout}")
    for name, column in source.columns.items():
        if not column.fits(row.get(name)):
            said = f"{name} is {brief(row[name])}" if name in row else f"there is no {name}"
            raise InputError(f"{place}: {said}; it must be {column.allowed}")
    return {name: row[name] for name in source.columns}


def _missing(source: Source, path: Path) -> str:
    """Return what to say of a file that is not there."""
    known = [each.file for each in SOURCES.values() if (path.parent / each.file).is_file()]
    there = ", ".join(known) if known else "none of the files that tasks read"
    where = f" (on the Hub: {source.hub})" if source.hub else ""
    return (
        f"{path} is missing; --data is a folder with such a file for each task, in which a line is a JSON object with "
        f"{source.layout}{where}; {path.parent} has {there}; docs/evaluation.md shows how to make them"
    )


def _from_hub(source: Source) -> Any:
    if not source.hub:
        raise InputError(f"{source.file} is on no hub: models/nano/tasks.py writes it; give its folder as --data")
    try:
        return datasets.load_dataset(source.hub, source.subset, split=source.split)
    except Exception as error:  # of the many packages in between
        raise DiffutronError(
            f"{source.hub} cannot be read from the Hub: {in_brief(error)}; give a folder with {source.file} as --data"
        ) from error
