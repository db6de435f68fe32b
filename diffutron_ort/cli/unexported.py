"""What `diffutron-ort info` says of a checkpoint that is not exported yet."""

from typing import Any

from diffutron_ort.bundle.exported import State, exports
from diffutron_ort.bundle.exporting import check_kind
from diffutron_ort.bundle.looking import Unexported
from diffutron_ort.bundle.manifest import MOST_LAYERS, MOST_PIECES, MOST_WIDTH
from diffutron_ort.cli.writing import megabytes
from diffutron_ort.extras import EXTRAS
from diffutron_ort.files import CHECKPOINT, read_object

BYTES = {"fp32": 4, "fp16": 2, "int8": 1, "int8-batch": 1}  # of a weight, in the variants that can be exported
MOST_INNER = 2**18  # width of the gated unit


def describe(found: Unexported) -> tuple[dict[str, Any], list[list[str]]]:
    """Return what `--json` prints of a checkpoint, and the same as rows for people.

    Raises:
        CheckpointError: It cannot be exported.
    """
    check_kind(found.checkpoint, found.config)
    shape, checkpoint = _shape(found), found.checkpoint
    size = _parameters(**shape) * BYTES[found.variant] if found.variant in BYTES else None
    said = {
        "kind": "checkpoint",
        "source": {"name": checkpoint.source, "revision": checkpoint.commit},
        **shape,
        "parameters": _parameters(**shape),
        "variant": found.variant,
        "size": size,
        "folder": str(checkpoint.entry(found.variant)),
        "exported": _exported(found),
        "exporter": _exporter().is_here(),
    }
    return said, _rows(said)


def _shape(found: Unexported) -> dict[str, int]:
    config = read_object(found.config, CHECKPOINT)
    return {
        "vocab_size": config.integer("vocab_size", 1, MOST_PIECES),
        "hidden_size": config.integer("hidden_size", 1, MOST_WIDTH),
        "intermediate_size": config.integer("intermediate_size", 1, MOST_INNER),
        "num_hidden_layers": config.integer("num_hidden_layers", 1, MOST_LAYERS),
    }


def _parameters(vocab_size: int, hidden_size: int, intermediate_size: int, num_hidden_layers: int) -> int:
    """Return the number of weights of a ModernBERT with a tied table; biases and norms are a thousandth of it."""
    layer = 4 * hidden_size**2 + 3 * hidden_size * intermediate_size
    return (vocab_size + hidden_size) * hidden_size + num_hidden_layers * layer


def _exported(found: Unexported) -> list[str]:
    """Return the other variants of the checkpoint that are in the cache."""
    mine = (found.checkpoint.source, found.checkpoint.commit)
    return [one.variant for one in exports() if (one.source, one.commit) == mine and one.state is State.READY]


def _exporter() -> Any:
    return next(extra for extra in EXTRAS if extra.name == "export")


def _rows(said: dict[str, Any]) -> list[list[str]]:
    layers, width, pieces = said["num_hidden_layers"], said["hidden_size"], said["vocab_size"]
    size = f", about {megabytes(said['size'])}" if said["size"] else ""
    needs = "" if said["exporter"] else f"; this needs more packages: {_exporter().command}"
    return [
        ["checkpoint", said["source"]["name"]],
        *([["revision", said["source"]["revision"]]] if said["source"]["revision"] else []),
        ["network", f"{layers} layers of width {width}, {pieces:,} tokens, {said['parameters'] / 1e6:,.1f} M weights"],
        ["exported", ", ".join(said["exported"]) or "not yet"],
        ["would be", f"{said['variant']}{size}, exported when it is first used{needs}"],
        ["to", said["folder"]],
    ]
