"""What a bundle's graph may hold: checked before ONNX Runtime opens it.

A graph is a program, and can have ONNX Runtime read files. It passes if it is made of what our exporter writes: the
standard operators of its kind, no functions, and no data outside but in the weights that the manifest lists for its
variant.
"""

import re
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from diffutron_ort.brief import brief
from diffutron_ort.bundle.integrity import check_place
from diffutron_ort.bundle.manifest import Bundle, Variant
from diffutron_ort.errors import BundleError
from diffutron_ort.files import read_bytes
from diffutron_ort.runtime.onnx_fields import Content, Found, Walk

MOST_BYTES = 16 * 2**20  # of a graph beside its weights; none of the real size has 1 MB
EXTERNAL = 1  # TensorProto.DataLocation
COUNT = re.compile(rb"[0-9]{1,19}")
ORT_FORMAT = b"ORTM"  # from the fifth byte on


class Kind(NamedTuple):
    """A kind of graph, and what it is made of.

    Attributes:
        name: For errors.
        operators: Of the standard domain, which is the only one.
        opsets: Versions of that domain.
        depth: Of graphs inside graphs, the bodies of loops and branches.
    """

    name: str
    operators: frozenset[bytes]
    opsets: range
    depth: int


def _operators(names: str) -> frozenset[bytes]:
    return frozenset(names.encode().split())


# Of all variants: a variant's name is the manifest's, and promises nothing.
_PASS = _operators("""
    Abs Add And Attention Cast Concat ConstantOfShape Cos Div DynamicQuantizeLinear Equal Exp Expand Gather
    GatherElements Gelu Gemm Greater GreaterOrEqual LayerNormalization Less LessOrEqual Log MatMul MatMulInteger Max Mul
    QuantizeLinear Range ReduceMax ReduceSum Reshape RotaryEmbedding ScatterElements Shape Sin Slice Softmax Squeeze
    Sub TopK Transpose Unsqueeze Where
""")
_LOOP = _operators("""
    BitwiseAnd BitwiseXor Compress Constant CumSum GatherND Identity If Loop Min NonZero Not Or Pad ReduceMin
    Round Scan Size
""")
_OPTIMUM = _operators("""
    Abs Add Cast Concat Constant ConstantOfShape Cos Div Equal Erf Expand Gather LayerNormalization LessOrEqual MatMul
    Mul Neg Not Range Reshape Shape Sin Slice Softmax Split Squeeze Sub Transpose Unsqueeze Where
""")
DENOISER = Kind("denoiser", _PASS, opsets=range(23, 24), depth=0)
GENERATION = Kind("generation graph", _PASS | _LOOP, opsets=range(23, 24), depth=2)
PLAIN = Kind("plain graph", _OPTIMUM, opsets=range(18, 19), depth=0)


class Weights(NamedTuple):
    """The one file of data that a graph may name.

    Attributes:
        location: As the graph has to write it, relative to its own folder.
        size: In bytes.
    """

    location: str
    size: int


def check_graphs(bundle: Bundle) -> int:
    """Check every graph of a bundle that is there, and return how many these are.

    Raises:
        BundleError: As of `checked_graph`.
    """
    return len([checked_graph(bundle, variant, kind) for variant, kind in _graphs(bundle) if bundle.is_here(variant)])


def checked_graph(bundle: Bundle, variant: Variant, kind: Kind) -> Path:
    """Return the path of a graph, absolute, once it is known to hold nothing foreign.

    Args:
        bundle: What its manifest says of the weights' size is believed.
        variant: Of this bundle.
        kind: Which of the variant's graphs.

    Raises:
        BundleError: The graph or its weights are a link out of the bundle, or it is not as `check_graph` wants it.
        BundleFileError: It is not there.
    """
    graph = variant.generate if kind is GENERATION else variant.graph
    assert graph is not None, "the caller has looked whether there is a generation graph"
    path = bundle.folder.absolute() / graph
    for name in (graph, variant.weights):
        check_place(bundle.folder, bundle.folder / name)
    content = _mapped(path) if graph == variant.weights else read_bytes(path, most=MOST_BYTES)
    check_graph(content, kind, _weights(bundle, graph, variant.weights), str(path))
    return path


def check_graph(content: Content, kind: Kind, weights: Weights | None, name: str = "the graph") -> None:
    """Refuse a graph that is not made of what our exporter writes.

    Args:
        content: Of its file.
        kind: What it has to be.
        weights: Where its data may lie; None where all of it is in the graph.
        name: Of its file, for errors.

    Raises:
        BundleError: It names another file, has foreign operators, functions or fields, or is malformed.
    """
    rules = _Rules(content, kind, weights)
    try:
        rules.check_format()
        Walk(content, rules.checks, kind.depth).run()
    except ValueError as error:
        raise BundleError(
            f"{name} is not a {kind.name} as this package exports it: {error}; get the bundle from its source again, "
            "or export the model again"
        ) from error


def _graphs(bundle: Bundle) -> Iterator[tuple[Variant, Kind]]:
    for variant in bundle.variants.values():
        yield variant, DENOISER
        if variant.generate is not None:
            yield variant, GENERATION
    if bundle.plain is not None:
        yield bundle.plain, PLAIN


def _weights(bundle: Bundle, graph: str, weights: str) -> Weights | None:
    """Return the weights as a graph has to name them; None if they are in the graph, or out of its folder."""
    folder, place = PurePosixPath(graph).parent, PurePosixPath(weights)
    if weights == graph or not place.is_relative_to(folder):
        return None
    return Weights(place.relative_to(folder).as_posix(), bundle.files[weights].size)


def _mapped(path: Path) -> Content:
    """Return the content of a graph that holds its weights: up to 2 GB, of which a walk reads little."""
    if not path.is_file():
        read_bytes(path, most=MOST_BYTES)  # says what it is instead
    try:
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: it is empty
        raise BundleError(f"{path} cannot be read: {error}; export the model again") from error


class _Rules:
    """What each message of a graph has to be; a check raises a ValueError that says what is wrong."""

    def __init__(self, content: Content, kind: Kind, weights: Weights | None) -> None:
        self._content: Any = content
        self._kind = kind
        self._weights = weights
        self.checks = {
            "ModelProto": self._model,
            "OperatorSetIdProto": self._operator_set,
            "NodeProto": self._node,
            "TensorProto": self._tensor,
        }

    def check_format(self) -> None:
        """Refuse ONNX Runtime's own format, which a file can be besides."""
        if self._content[4:8] == ORT_FORMAT:
            raise ValueError("it is of ONNX Runtime's own format")

    def _model(self, found: Found) -> None:
        if "graph" not in found or len(found.get("opset_import", ())) != 1:
            raise ValueError("it is no ONNX file of one graph and one set of operators")

    def _operator_set(self, found: Found) -> None:
        if domain := self._text(found, "domain"):
            raise ValueError(f"it imports operators of {_shown(domain)}")
        if found.get("version") not in self._kind.opsets:
            raise ValueError(f"its operators are of version {found.get('version')}")

    def _node(self, found: Found) -> None:
        domain, name = self._text(found, "domain"), self._text(found, "op_type")
        if domain or name not in self._kind.operators:
            raise ValueError(f"it has the operator {_shown(b'.'.join(filter(None, (domain, name))))}")

    def _tensor(self, found: Found) -> None:
        """Check where a tensor's data lie, also where they are said not to be outside."""
        entries = found.get("external_data", ())
        said = {self._text(entry, "key"): self._text(entry, "value") for entry in entries}
        if not said and found.get("data_location") != EXTERNAL:
            return
        if len(said) < len(entries) or said.keys() - {b"location", b"offset", b"length"}:
            raise ValueError(
                f"a tensor's data have the keys {_shown(b', '.join(self._text(e, 'key') for e in entries))}"
            )
        self._location(said.get(b"location", b""))
        self._extent(said.get(b"offset", b"0"), said.get(b"length", b"0"))

    def _location(self, location: bytes) -> None:
        allowed = self._weights and self._weights.location
        if allowed is None or location != allowed.encode():
            wanted = f"the manifest lists {allowed!r} for it" if allowed else "the manifest lists no weights beside it"
            raise ValueError(f"it reads the file {_shown(location)}, and {wanted}")

    def _extent(self, offset: bytes, length: bytes) -> None:
        size = self._weights.size if self._weights else 0
        whole = COUNT.fullmatch(offset) and COUNT.fullmatch(length)
        if not whole or int(offset) + int(length) > size:
            raise ValueError(f"it reads {_shown(length)} bytes from {_shown(offset)} on, of weights of {size} bytes")

    def _text(self, found: Found, name: str) -> bytes:
        return bytes(self._content[found[name]]) if name in found else b""


def _shown(text: bytes) -> str:
    """Return a text of the graph as an error may show it."""
    return brief(text[:1000].decode("utf-8", "backslashreplace"))
