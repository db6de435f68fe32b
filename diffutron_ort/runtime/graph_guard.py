"""Check what a bundle's graph holds before ONNX Runtime opens it.

A graph is a program, and can make ONNX Runtime read files. It passes if it holds only what our exporter writes: the
standard operators of its kind, no functions, and no external data except in the weights that the manifest lists for its
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

MOST_BYTES = 16 * 2**20  # of a graph without its weights; those of the real model have less than 1 MB
EXTERNAL = 1  # TensorProto.DataLocation
COUNT = re.compile(rb"[0-9]{1,19}")
ORT_FORMAT = b"ORTM"  # bytes 5 to 8 of a file in ONNX Runtime's own format


class Kind(NamedTuple):
    """A kind of graph, and what it may hold.

    Attributes:
        name: For error messages.
        operators: Operators of the standard domain; no other domain is allowed.
        opsets: Versions of that domain.
        depth: How deep graphs, the bodies of loops and branches, may be nested in others.
    """

    name: str
    operators: frozenset[bytes]
    opsets: range
    depth: int


def _operators(names: str) -> frozenset[bytes]:
    return frozenset(names.encode().split())


# The operators of all variants together: a variant's name comes from the manifest, and promises nothing.
_PASS = _operators("""
    Abs Add And Attention Cast Clip Concat ConstantOfShape Cos CumSum Div DynamicQuantizeLinear Equal Exp Expand Gather
    GatherElements GatherND Gelu Gemm Greater GreaterOrEqual Identity If LayerNormalization Less LessOrEqual Log MatMul
    MatMulInteger Max Min Mul Not QuantizeLinear Range Reciprocal ReduceMax ReduceSum Reshape RotaryEmbedding
    ScatterElements Shape Sin Slice Softmax Squeeze Sub Sum TopK Transpose Unsqueeze Where
""")
_LOOP = _operators("""
    BitwiseAnd BitwiseXor Compress Constant Loop NonZero Or Pad ReduceMin Round Scan Size
""")
_OPTIMUM = _operators("""
    Abs Add Cast Concat Constant ConstantOfShape Cos Div Equal Erf Expand Gather LayerNormalization LessOrEqual MatMul
    Mul Neg Not Range Reshape Shape Sin Slice Softmax Split Squeeze Sub Transpose Unsqueeze Where
""")
DENOISER = Kind("denoiser", _PASS, opsets=range(23, 24), depth=1)
GENERATION = Kind("generation graph", _PASS | _LOOP, opsets=range(23, 24), depth=2)
PLAIN = Kind("plain graph", _OPTIMUM, opsets=range(18, 19), depth=0)


class Weights(NamedTuple):
    """The only file that a graph may take data from.

    Attributes:
        location: Its path as the graph must write it, relative to the graph's folder.
        size: In bytes.
    """

    location: str
    size: int


def check_graphs(bundle: Bundle) -> int:
    """Check every graph that is in a bundle's folder, and return their number.

    Raises:
        BundleError: As for `checked_graph`.
    """
    return len([checked_graph(bundle, variant, kind) for variant, kind in _graphs(bundle) if bundle.is_here(variant)])


def checked_graph(bundle: Bundle, variant: Variant, kind: Kind) -> Path:
    """Check a graph, and return its absolute path.

    Args:
        bundle: The bundle; the weights are taken to have the size that its manifest says.
        variant: A variant of this bundle.
        kind: Which of the variant's graphs.

    Raises:
        BundleError: The graph or its weights are a link out of the bundle, or `check_graph` refuses the graph.
        BundleFileError: The graph is missing.
    """
    graph = variant.generate if kind is GENERATION else variant.graph
    assert graph is not None, "the caller checks that there is a generation graph"
    path = bundle.folder.absolute() / graph
    for name in (graph, variant.weights):
        check_place(bundle.folder, bundle.folder / name)
    content = _mapped(path) if graph == variant.weights else read_bytes(path, most=MOST_BYTES)
    check_graph(content, kind, _weights(bundle, graph, variant.weights), str(path))
    return path


def check_graph(content: Content, kind: Kind, weights: Weights | None, name: str = "the graph") -> None:
    """Refuse a graph that holds anything that our exporter does not write.

    Args:
        content: The file's content.
        kind: The kind of graph that it must be.
        weights: The file that its data may be in; None if all of it must be in the graph.
        name: The file's name, for error messages.

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
    """Return the weights as a graph must name them; None if they are in the graph, or outside its folder."""
    folder, place = PurePosixPath(graph).parent, PurePosixPath(weights)
    if weights == graph or not place.is_relative_to(folder):
        return None
    return Weights(place.relative_to(folder).as_posix(), bundle.files[weights].size)


def _mapped(path: Path) -> Content:
    """Map the content of a graph that holds its weights: up to 2 GB, of which a walk reads little."""
    if not path.is_file():
        read_bytes(path, most=MOST_BYTES)  # raises, and says what it is instead
    try:
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: the file is empty
        raise BundleError(f"{path} cannot be read: {error}; export the model again") from error


class _Rules:
    """The rules for each message of a graph; a check raises a ValueError that says what is wrong."""

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
        """Refuse a file that is also in ONNX Runtime's own format."""
        if self._content[4:8] == ORT_FORMAT:
            raise ValueError("it is in ONNX Runtime's own format")

    def _model(self, found: Found) -> None:
        if "graph" not in found or len(found.get("opset_import", ())) != 1:
            raise ValueError("it is not an ONNX file with one graph and one operator set")

    def _operator_set(self, found: Found) -> None:
        if domain := self._text(found, "domain"):
            raise ValueError(f"it imports operators of {_shown(domain)}")
        if found.get("version") not in self._kind.opsets:
            raise ValueError(f"its operators have version {found.get('version')}")

    def _node(self, found: Found) -> None:
        domain, name = self._text(found, "domain"), self._text(found, "op_type")
        if domain or name not in self._kind.operators:
            raise ValueError(f"it has the operator {_shown(b'.'.join(filter(None, (domain, name))))}")

    def _tensor(self, found: Found) -> None:
        """Check where a tensor's data is, even if the tensor says that it is not external."""
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
            raise ValueError(
                f"it reads {_shown(length)} bytes at offset {_shown(offset)} of weights that have {size} bytes"
            )

    def _text(self, found: Found, name: str) -> bytes:
        return bytes(self._content[found[name]]) if name in found else b""


def _shown(text: bytes) -> str:
    """Return a text from the graph, made safe for an error message."""
    return brief(text[:1000].decode("utf-8", "backslashreplace"))
