"""The denoiser as an ONNX graph: contract 2 of the runtime, written straight from a checkpoint's rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass
from onnxscript import GraphBuilder, nn

from diffutron_ort.runtime.contract import DENOISER_INPUTS, DENOISER_OUTPUTS, for_layers
from diffutron_ort_export.checkpoint.architecture import Shape
from diffutron_ort_export.checkpoint.source import Source
from diffutron_ort_export.graph.head import Embeddings, Head, Table
from diffutron_ort_export.graph.layers import KeyValue, Layer, Past, Rotation, Rows, Sizes, Tokens
from diffutron_ort_export.graph.masking import CERTAIN, masks, rows_of_mask, sequences
from diffutron_ort_export.graph.precision import TABLE_MATRIX, Precisions
from diffutron_ort_export.graph.products import ZERO, Norm, Rounding, Stored
from diffutron_ort_export.graph.reductions import Options, Predictions, reduce_logits
from diffutron_ort_export.graph.values import BOOL, FLOAT, INT32, INT64, Op, declare_shapes, filled, sized
from diffutron_ort_export.graph.vocabulary import Columns, Ids
from diffutron_ort_export.graph.weights_file import WeightsFile

OPSET, IR_VERSION = 23, 10
"""The versions of the operators and of the file, which every allowed release of ONNX Runtime reads."""

COMPUTED, QUERIED, PREDICTED = "tokens", "queried", "predicted"
"""The names of the axes of all tokens in one line, of the last layer's queries, and of the rows, at least one."""

Inputs = Mapping[str, ir.Value]


class Denoiser(nn.Module):
    """Tokens to predictions, keys and values.

    Args:
        shape: The network's shape.
        columns: The columns of the logits.
        precisions: How the products with each matrix are computed.
        masked: Added to masked scores.
    """

    def __init__(self, shape: Shape, columns: Columns, precisions: Precisions, masked: float) -> None:
        super().__init__("")
        self.shape, self.columns, self.masked = shape, columns, masked
        self.embeddings = Embeddings(shape, Table(shape, columns, precisions[TABLE_MATRIX]))
        self.layers = nn.ModuleList([Layer(shape, i, precisions) for i in range(shape.layers)])
        self.final_norm = Norm("model.final_norm", shape.hidden_size, shape.norm_eps)
        self.head = Head(shape, precisions)

    def forward(self, op: Op, given: Inputs) -> tuple[Predictions, list[KeyValue]]:
        """Return the outputs of a pass, given the inputs of the contract by name."""
        ids = Ids(op, self.columns)
        tokens = self.tokens(op, given)
        rows = self.rows(op, sized(at_least_one_row(op, given["rows"]), PREDICTED), given, tokens)
        line = sized(op.Reshape(given["input_ids"], [-1]), COMPUTED)
        x, computed = self.embeddings(op, ids.table_rows(op, line)), []
        has_past = op.Greater(op.Squeeze(op.Shape(given["past_position_ids"], start=1)), 0)
        for i, layer in enumerate(self.layers):
            past = Past(given[f"past_key.{i}"], given[f"past_value.{i}"], has_past)
            x, own = layer(op, x, tokens, past, rows if i == self.shape.layers - 1 else None)
            computed.append(own)
        hidden = self.head(op, self.final_norm(op, x), rows.rounding)
        parts = self.embeddings.tok_embeddings.parts
        found = reduce_logits(op, hidden, parts, ids, row_options(op, given, rows))
        return only_asked(op, found, given), computed

    def tokens(self, op: Op, given: Inputs) -> Tokens:
        """Return what the layers share of all computed tokens."""
        shape, positions = self.shape, given["position_ids"]
        keys = op.Concat(positions, given["past_position_ids"], axis=1)
        batch_seq = op.Shape(positions)
        sizes = (op.Concat(batch_seq, [width], axis=0) for width in (shape.hidden_size, shape.head_size // 2))
        line = sized(op.Reshape(positions, [-1]), COMPUTED)
        return Tokens(
            axes=("batch", "seq", shape.hidden_size),
            count=COMPUTED,
            sizes=Sizes(*sizes),
            rotations=self.rotations(op, line),
            masks=masks(op, positions, keys, shape.window, self.masked),
            rounding=Rounding.of(op, zero_point(op), op.Shape(line), COMPUTED),
        )

    def rotations(self, op: Op, positions: ir.Value) -> Sequence[Rotation]:
        """Return the rotations of tokens at positions [tokens] in local and in global layers."""
        thetas = (self.shape.local_theta, self.shape.global_theta)
        made = {theta: rotation(op, positions, theta, self.shape.head_size) for theta in thetas}
        return [made[theta] for theta in thetas]

    def rows(self, op: Op, rows: ir.Value, given: Inputs, tokens: Tokens) -> Rows:
        """Return what the last layer needs of the tokens that leave it."""
        batch, sequence = op.Shape(given["position_ids"], end=1), sequences(op, rows, given["position_ids"])
        places, queries = queries_of(op, sequence, batch)
        queried = op.ScatterElements(filled(op, 0, op.Mul(batch, queries)), places, rows)
        widths = (self.shape.hidden_size, self.shape.head_size // 2)
        return Rows(
            rows,
            queried,
            places,
            Tokens(
                axes=("batch", "queries", self.shape.hidden_size),
                count=QUERIED,
                sizes=Sizes(*(op.Concat(batch, queries, [width], axis=0) for width in widths)),
                rotations=[each.rows(op, queried) for each in tokens.rotations],
                masks=[rows_of_mask(op, mask, queried, batch) for mask in tokens.masks],
                rounding=tokens.rounding,
            ),
            Rounding.of(op, tokens.rounding.zero, op.Shape(rows), PREDICTED),
            PREDICTED,
        )

    def store(self, source: Source, file: WeightsFile) -> None:
        """Write all parameters."""
        for module in self.modules():
            if isinstance(module, Stored):
                module.store(source.weights, file)


def zero_point(op: Op) -> ir.Value:
    """Return the unsigned byte that stands for 0 in 8-bit activations."""
    return op.builder.initializer(ir.tensor(ZERO), "zero_point")


def rotation(op: Op, positions: ir.Value, theta: float, head_size: int) -> Rotation:
    """Return the rotation of tokens at positions [tokens]."""
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    frequencies = (1.0 / np.float32(theta) ** exponents).astype(np.float32)
    angles = op.Mul(op.Cast(op.Unsqueeze(positions, [1]), to=FLOAT), frequencies.tolist())  # [tokens, head_size / 2]
    return Rotation(op.Cos(angles), op.Sin(angles))


def at_least_one_row(op: Op, x: ir.Value) -> ir.Value:
    """Return int64 x [n, ...], or a row of zeros if n is 0: Attention needs a query."""
    zeros = filled(op, 0, op.Concat([1], op.Shape(x, start=1), axis=0))
    return op.Slice(op.Concat(x, zeros, axis=0), [0], op.Max(op.Shape(x, end=1), [1]))


def queries_of(op: Op, sequence: ir.Value, batch: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return the place of each row in [batch, queries], int64 [n], given its sequence [n]; and `queries`, int64 [1].

    There are at least two queries: ONNX Runtime adds up the products of a single one in another order.
    """
    own = op.Equal(op.Unsqueeze(sequence, [1]), op.Unsqueeze(op.Range(0, op.Squeeze(batch), 1), [0]))  # [n, batch]
    counts = op.CumSum(op.Cast(own, to=INT64), 0)
    number = op.Squeeze(op.GatherElements(counts, op.Unsqueeze(sequence, [1]), axis=1), [1])  # from 1 on
    queries = op.Max(op.Reshape(op.ReduceMax(counts, keepdims=0), [1]), [2])
    return op.Sub(op.Add(op.Mul(sequence, queries), number), 1), queries


def row_options(op: Op, given: Inputs, rows: Rows) -> Options:
    """Return what the caller says about each row; most of it is said about the row's sequence."""
    sequence = sequences(op, rows.rows, given["position_ids"])
    seen, suppressed = given["seen_ids"], given["suppress_ids"]
    none = filled(op, -1, op.Concat(op.Shape(suppressed, end=1), [1], axis=0))
    same = op.Equal(op.Unsqueeze(seen, [2]), op.Unsqueeze(op.Concat(suppressed, none, axis=1), [1]))
    barred = op.ReduceMax(op.Cast(same, to=INT32), [2], keepdims=0)  # [batch, u]
    return Options(
        seen=op.Gather(seen, sequence),
        suppressed=op.Gather(suppressed, sequence),
        barred=op.Cast(op.Gather(barred, sequence), to=BOOL),
        penalty=op.Unsqueeze(op.Gather(given["repetition_penalty"], sequence), [1]),
        temperature=op.Unsqueeze(op.Gather(given["temperature"], sequence), [1]),
        targets=at_least_one_row(op, given["target_ids"]),
        wants_entropy=given["want_entropy"],
        wants_logits=given["want_logits"],
    )


def only_asked(op: Op, found: Predictions, given: Inputs) -> Predictions:
    """Return the predictions of the rows that were asked for: none, if there was only a row to have one."""
    count = op.Shape(given["rows"])
    return Predictions(*(op.Slice(value, [0], count, [0]) for value in found))


def build(shape: Shape, columns: Columns, precisions: Precisions, masked: float) -> tuple[ir.Model, Denoiser]:
    """Return the model, whose parameters have no values yet, and the module that they belong to."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="denoiser")
    builder, denoiser = GraphBuilder(graph), Denoiser(shape, columns, precisions, masked)
    sizes = {"hidden": shape.hidden_size, "k": columns.top, "columns": columns.count}
    given = {
        value.name: builder.input(
            value.name,
            ir.DataType.from_numpy(np.dtype(value.dtype)),
            [sizes.get(str(axis), axis) for axis in value.axes],
        )
        for value in for_layers(DENOISER_INPUTS, shape.layers)
    }
    found, computed = denoiser(builder.op, given)
    results = found._asdict() | {
        f"{name}.{i}": part for i, own in enumerate(computed) for name, part in own._asdict().items()
    }
    for value in for_layers(DENOISER_OUTPUTS, shape.layers):
        output = results[value.name]
        builder.add_output(output, value.name)
        output.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(value.dtype)))
        output.shape = ir.Shape([sizes.get(str(axis), axis) for axis in value.axes])
    for node in graph.all_nodes():
        node.metadata_props.clear()  # where in our code it comes from
    declare_shapes(graph)
    model = ir.Model(graph, ir_version=IR_VERSION)
    RemoveUnusedNodesPass()(model)
    NameFixPass()(model)  # branches name their values as the graph around them does
    return model, denoiser


def write_denoiser(
    source: Source, path: Path, precisions: Precisions, provenance: Mapping[str, str], masked: float = CERTAIN
) -> None:
    """Write a checkpoint's graph, and its weights into a file beside it, a matrix at a time.

    Args:
        source: The checkpoint.
        path: The path of the graph; the weights go to this path with `.data` appended.
        precisions: How the products with each matrix are computed.
        provenance: The graph's metadata.
        masked: Added to masked scores; `masked_score` chooses it.
    """
    model, denoiser = build(source.shape, Columns.of(source), precisions, masked)
    model.metadata_props.update(provenance)
    with WeightsFile(path.with_name(f"{path.name}.data")) as file:
        denoiser.store(source, file)
    ir.save(model, path)


def write_sharing(
    source: Source,
    path: Path,
    precisions: Precisions,
    provenance: Mapping[str, str],
    other: Path,
    masked: float = CERTAIN,
) -> None:
    """Write a graph that reads the weights of another one, whose matrices are stored as this one's are.

    Args:
        source: The checkpoint.
        path: The path of the graph, in the folder of the other.
        precisions: How the products with each matrix are computed.
        provenance: The graph's metadata.
        other: The path of the other graph.
        masked: Added to masked scores.
    """
    model, _ = build(source.shape, Columns.of(source), precisions, masked)
    model.metadata_props.update(provenance)
    stored = ir.load(other).graph.initializers
    for name, value in model.graph.initializers.items():
        if value.const_value is None:
            value.const_value = stored[name].const_value
    ir.save(model, path)
