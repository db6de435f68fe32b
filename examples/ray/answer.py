"""Answer the rows of Parquet or JSONL files on a Ray cluster, and write them with their answers as Parquet."""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from diffutron_ort.bulk.formats import Jsonl
from diffutron_ort.bulk.records import ERROR
from diffutron_ort.errors import DiffutronError, ProviderError
from diffutron_ort.integrations.ray import Answerer

INDEX = "index"  # the column of the rows' numbers: row i has the seed + i, and the answers can be put in order
LINES = 10_000  # of a JSONL file that one task reads


def main() -> int:
    """Answer the rows, and return the exit code: 0 done, 1 if something failed, be it a single row."""
    arguments = parsed()
    DataContext.get_current().actor_task_retry_on_errors = [ProviderError]  # its node may lack memory for a moment
    try:
        if not (found := parts(arguments.source)):
            say("there are no rows")
            return 0
        ray.init(arguments.address, log_to_driver=False)
        answers = answered(numbered(found), arguments)
        answers.write_parquet(str(arguments.out.absolute()), min_rows_per_file=arguments.rows_per_file)
    except (OSError, pa.ArrowException, ray.exceptions.RayError) as error:
        say(reason(error))
        return 1
    return told(arguments.out)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="+", type=Path, help="Parquet or JSONL file, at the same path on every node")
    parser.add_argument("out", type=Path, help="new folder for Parquet files, at the same path on every node")
    parser.add_argument("--model", help="folder at the same path on every node, or hub id (default: nano)")
    parser.add_argument("--variant", help="of the model")
    parser.add_argument("--column", default="prompt", help="the column of the prompts")
    parser.add_argument("--preset", choices=("short", "long", "fast"))
    parser.add_argument("--steps", type=int, help="denoising steps")
    parser.add_argument("--seed", type=int, default=0, help="row i has this seed + i")
    parser.add_argument("--address", help="of the cluster (default: RAY_ADDRESS; without it, this machine alone)")
    parser.add_argument("--actors", type=int, default=2, help="how many have the model")
    parser.add_argument("--cpus", type=int, default=1, help="processors of an actor, and threads of its model")
    parser.add_argument(
        "--rows", type=int, default=64, help="rows that an actor gets at a time, and may have to repeat"
    )
    parser.add_argument("--rows-per-file", type=int, default=100_000, help="rows of a file that is written, at least")
    arguments = parser.parse_args()
    if arguments.out.exists() and not (arguments.out.is_dir() and not any(arguments.out.iterdir())):
        parser.error(f"{arguments.out} exists already: give a new folder")
    return arguments


def parts(sources: list[Path]) -> list[dict[str, object]]:
    """Return the parts of files that a task each reads, with the number of each part's first row.

    A row's number is its place in the files, in their order, whatever order the cluster reads and answers in.
    """
    found: list[dict[str, object]] = []
    first = 0
    for source in sources:
        for start, count in (row_groups if source.suffix == ".parquet" else line_groups)(source):
            found.append({"path": str(source.absolute()), "start": start, "count": count, "first": first})
            first += count
    return found


def row_groups(source: Path) -> Iterator[tuple[int, int]]:
    """Yield the number and the rows of each row group of a Parquet file."""
    metadata = pq.read_metadata(source)
    for group in range(metadata.num_row_groups):
        yield group, metadata.row_group(group).num_rows


def line_groups(source: Path) -> Iterator[tuple[int, int]]:
    """Yield the first byte and the lines of each part of a JSONL file."""
    with source.open("rb") as file:
        start = 0
        while lines := list(islice(file, LINES)):
            yield start, len(lines)
            start += sum(map(len, lines))


def numbered(found: list[dict[str, object]]) -> Dataset:
    """Return the rows of parts of files, with their numbers."""
    return ray.data.from_items(found, override_num_blocks=len(found)).map_batches(
        read, batch_size=1, batch_format="pyarrow"
    )


def read(parts: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of each part."""
    for part in parts.to_pylist():
        path, first = Path(part["path"]), part["first"]
        if path.suffix == ".parquet":
            rows = pq.ParquetFile(path).read_row_group(part["start"])
        else:
            with path.open("rb") as file:
                file.seek(part["start"])
                lines = [Jsonl().read(first + i, line) for i, line in enumerate(islice(file, part["count"]))]
            rows = pa.Table.from_struct_array(pa.array([line.record for line in lines]))
        if INDEX in rows.column_names:
            raise DiffutronError(f"{path} has a column {INDEX!r} already: rename it")
        yield rows.append_column(INDEX, pa.array(range(first, first + rows.num_rows), pa.int64()))


def answered(rows: Dataset, arguments: argparse.Namespace) -> Dataset:
    """Return rows with their answers.

    Ray reads on only as fast as the actors answer. If an actor dies, or its node, Ray starts another and gives it the
    rows that were not answered yet.
    """
    options = {name: getattr(arguments, name) for name in ("model", "variant", "column", "preset", "steps", "seed")}
    return rows.repartition(target_num_rows_per_block=arguments.rows).map_batches(
        Answerer,
        fn_constructor_kwargs={name: value for name, value in options.items() if value is not None} | {"index": INDEX},
        batch_format="pyarrow",
        batch_size=arguments.rows,
        compute=ActorPoolStrategy(min_size=1, max_size=arguments.actors, max_tasks_in_flight_per_actor=2),
        num_cpus=arguments.cpus,
    )


def reason(error: Exception) -> str:
    """Return the message of an error; of one that was raised in a worker, what was raised."""
    raised = [line for line in str(error).splitlines() if line.startswith("diffutron_ort.errors.")]
    return raised[-1].partition(": ")[2] if raised else str(error)


def told(out: Path) -> int:
    """Tell how many rows failed, and return the exit code."""
    answers = pyarrow.dataset.dataset(out, format="parquet")
    total, failed = answers.count_rows(), answers.count_rows(filter=pa.compute.field(ERROR).is_valid())
    say(f"{total} rows, of which {failed} failed")
    return 1 if failed else 0


def say(message: str) -> None:
    """Print a line for people."""
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    sys.exit(main())
