"""The columns of the logits: one for each id that the graph can predict.

The head reads the table in parts, each so small that its logits are reduced while they are in the processor's cache. A
part is a multiple of `STEP` columns, so the last one is filled up, with columns that never count.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.checkpoint.tokenizer import SPECIAL_IDS
from diffutron_ort_export.graph.values import INT64, Op

GROUP = 16
"""The number of neighbouring columns whose greatest logit is looked at first."""

STEP = 4 * GROUP
"""Every part has a multiple of it: sums of its groups are then aligned in every row, and added up in the same order."""

PART = 32_000
"""About how many columns a part has."""

TOP = 64
"""The number of candidates that the graph returns for each row."""

KEPT, PLACE = "kept_ids", "table_rows"
"""The initializers of an output vocabulary: the id of each column, and the table's row of each id."""

MASK = SPECIAL_IDS["mask"]
"""An id that every output vocabulary contains."""


@dataclass(frozen=True)
class Columns:
    """The layout of the logits' columns.

    Attributes:
        vocab: The number of ids.
        kept: The ids that can be predicted, ascending; None is all. Their rows come first in the exported table.
    """

    vocab: int
    kept: NDArray[np.int64] | None

    @classmethod
    def of(cls, source: Source) -> Self:
        """Return the layout for a checkpoint's vocabulary, or for its output vocabulary."""
        kept = source.output_vocabulary
        return cls(source.shape.vocab_size, None if kept is None else np.array(kept, np.int64))

    @property
    def count(self) -> int:
        """The number of columns."""
        return self.vocab if self.kept is None else len(self.kept)

    @property
    def parts(self) -> int:
        """The number of parts."""
        return max(1, round(self.count / PART))

    @property
    def width(self) -> int:
        """The number of columns of a part, with those that fill it up."""
        return -(-self.count // (self.parts * STEP)) * STEP

    @property
    def groups(self) -> int:
        """The number of groups of a part."""
        return self.width // GROUP

    @property
    def padded(self) -> int:
        """The number of columns of all parts."""
        return self.parts * self.width

    @property
    def firsts(self) -> range:
        """The first column of each part."""
        return range(0, self.padded, self.width)

    @property
    def top(self) -> int:
        """The number of candidates."""
        return min(TOP, self.count)

    @property
    def rows(self) -> int:
        """The number of rows of the exported table: all ids, and as many as the columns need."""
        return max(self.vocab, self.padded)

    def order(self) -> NDArray[np.int64]:
        """Return the id of each of the table's first `vocab` rows."""
        if self.kept is None:
            return np.arange(self.vocab)
        others = np.ones(self.vocab, bool)
        others[self.kept] = False
        return np.concatenate([self.kept, np.flatnonzero(others)])

    def places(self) -> NDArray[np.int32]:
        """Return the table's row of each id, int32 [vocab]."""
        return self.order().argsort().astype(np.int32)


class Ids:
    """Ids and columns in the graph; they are the same where all ids can be predicted."""

    def __init__(self, op: Op, columns: Columns) -> None:
        self.columns = columns
        if columns.kept is not None:
            self._kept = op.builder.initializer(ir.tensor(columns.kept), KEPT)
            self._place = op.builder.initializer(ir.tensor(columns.places()), PLACE)

    def table_rows(self, op: Op, ids: ir.Value) -> ir.Value:
        """Return the table's rows of ids."""
        return ids if self.columns.kept is None else op.Gather(self._place, ids)

    def columns_of(self, op: Op, ids: ir.Value) -> tuple[ir.Value, ir.Value | None]:
        """Return the columns of ids, and whether each has one; None if all have. Others are given that of `<mask>`."""
        if self.columns.kept is None:
            return ids, None
        rows = op.Cast(op.Gather(self._place, ids), to=INT64)
        has = op.Less(rows, self.columns.count)
        return op.Where(has, rows, int(self.columns.places()[MASK])), has

    def ids_of(self, op: Op, columns: ir.Value) -> ir.Value:
        """Return the ids of columns."""
        return columns if self.columns.kept is None else op.Gather(self._kept, columns)
