"""Answer the rows of a Ray dataset: a class for `map_batches`, of which each actor loads the model once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from diffutron_ort.bulk.answering import answer
from diffutron_ort.bulk.records import COMPLETION, ERROR, FINISH_REASON, OPTIONS, PROMPT, Record
from diffutron_ort.errors import InputError
from diffutron_ort.extras import needing
from diffutron_ort.model import Diffutron

with needing("ray", "diffutron_ort.integrations.ray"):
    import pyarrow as pa
    import ray

Batch: TypeAlias = Any
"""What Ray passes for `batch_format`: a `pyarrow.Table`, a `pandas.DataFrame`, or a dict of numpy arrays."""

RESULTS = (COMPLETION, FINISH_REASON, ERROR)


class Answerer:
    """Answers batches of rows, each as the library answers its prompt alone.

    A row has a `prompt` or `messages`, and may have `options`, as a record of `diffutron-ort generate --input`. The
    answered row has its `completion` and `finish_reason` as well; one that cannot be answered has its `error` instead.

        from ray.data import ActorPoolStrategy

        rows.map_batches(
            Answerer,
            fn_constructor_kwargs={"model": "/shared/bundle", "index": "id"},
            batch_format="pyarrow",
            batch_size=64,
            compute=ActorPoolStrategy(size=8),
            num_cpus=2,
        )
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        variant: str | None = None,
        providers: Sequence[str] | None = None,
        revision: str | None = None,
        threads: int | None = None,
        spin: bool = False,
        column: str = PROMPT,
        index: str | None = None,
        template: bool = True,
        preset: str | None = None,
        **options: Any,
    ) -> None:
        """Load the model.

        Args:
            model: As for `Diffutron.from_pretrained`; a folder must be there on every node.
            variant: As for `from_pretrained`.
            providers: As for `from_pretrained`.
            revision: As for `from_pretrained`.
            threads: Within an operator; None takes as many as the actor has processors (`num_cpus`).
            spin: As for `from_pretrained`, but off, since idle threads would take time from the node's other actors.
            column: The name of the prompt.
            index: The column with each row's number, an integer from 0, which is added to `seed`. Row i is then
                answered as prompt i of a list. Without it, all rows have the same seed. Either way, it does not matter
                which actor gets a row, when, and with which others. A row's own seed, in its `options`, is taken as
                it is.
            template: As for `Diffutron.generate`.
            preset: As for `Diffutron.generate`.
            **options: Any field of `GenerationConfig`; a row's own options override them.

        Raises:
            DiffutronError: As for `from_pretrained` and `Diffutron.config`.
        """
        self._model = Diffutron.from_pretrained(
            model,
            variant=variant,
            providers=providers,
            revision=revision,
            threads=processors() if threads is None else threads,
            spin=spin,
        )
        self._seed = self._model.config(preset, **options).seed
        self._index = index
        self._terms = {"column": column, "template": template, "preset": preset, **options}

    def __call__(self, batch: Batch) -> "pa.Table":
        """Return the rows of a batch with `completion` and `finish_reason`, or with `error`; the others are null.

        The result is a table in every batch format, so that a column has its type even if it holds nothing.

        Raises:
            InputError: The column `index` is missing, or does not have an integer in every row.
            ProviderError: ONNX Runtime fails, or there is not enough memory.
            BundleError: The graph returned what no denoiser can have predicted.
        """
        table = _table(batch)
        records = map(self._seeded, table.to_pylist(), self._numbers(table))
        return _with_results(table, list(answer(self._model, records, **self._terms)))

    def _numbers(self, table: "pa.Table") -> list[int]:
        """Return what is added to the seed for each row."""
        if self._index is None:
            return [0] * table.num_rows
        if self._index not in table.column_names:
            raise InputError(f"index={self._index!r}: there are the columns {', '.join(table.column_names)}")
        numbers = table.column(self._index)
        if not pa.types.is_integer(numbers.type) or numbers.null_count:
            raise InputError(
                f"index={self._index!r} is a column of {numbers.type} with {numbers.null_count} nulls: it must have an "
                "integer in every row"
            )
        found: list[int] = numbers.to_pylist()
        return found

    def _seeded(self, row: Record, number: int) -> Record:
        """Return a row with the seed that it is answered with among its options, unless it has one."""
        own = row.get(OPTIONS) or {}
        if not isinstance(own, Mapping):
            return row  # which is refused for it
        given = {name: value for name, value in own.items() if value is not None}
        return {**row, OPTIONS: {"seed": (self._seed + number) % 2**64, **given}}


def processors() -> int | None:
    """Return how many processors Ray gives to this actor, at least one; None outside Ray."""
    if not ray.is_initialized():
        return None
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


def _table(batch: Batch) -> "pa.Table":
    """Return a batch as a table."""
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, Mapping):
        return pa.table({name: pa.array(list(_plain(values))) for name, values in batch.items()})
    return pa.Table.from_pandas(batch, preserve_index=False)


def _plain(values: Any) -> Iterator[Any]:
    """Yield an array's values, with lists for the arrays that numpy has for them."""
    for value in values.tolist():
        yield list(_plain(value)) if hasattr(value, "tolist") else value


def _with_results(table: "pa.Table", records: Sequence[Record]) -> "pa.Table":
    """Return a table with the results of its rows as columns, in place of those that it may have."""
    others = table.drop_columns([name for name in RESULTS if name in table.column_names])
    for name in RESULTS:
        others = others.append_column(name, pa.array([record.get(name) for record in records], pa.string()))
    return others
