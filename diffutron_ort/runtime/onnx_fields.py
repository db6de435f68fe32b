"""The fields of an ONNX file, read from its bytes: those that our exporter writes, and no others.

An ONNX file is a protobuf message, `ModelProto`: fields, each a tag (its number, and how it is written) and a value, of
which many are messages again. Only what a caller asks for is kept, so a file with its weights inside costs no more
than one without. What is noted of values inside a graph, and for people, is not looked into: it names no file and no
code.
"""

from collections.abc import Callable, Mapping
from mmap import mmap
from typing import Any, NamedTuple, TypeAlias

Content: TypeAlias = bytes | mmap
Found: TypeAlias = dict[str, Any]  # by name: an int, a slice of the content, a message, or a list of these
Checks: TypeAlias = Mapping[str, Callable[[Found], None]]

MOST_FIELDS = 2_000_000  # a hundred times what the real size has; they take about a second

INT, FLOAT, BYTES = "int", "float", "bytes"
WIRE = {INT: 0, FLOAT: 5}  # how a value is written; all others have 2, their length before them
ONCE, EACH, MANY = range(3)


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: Of it.
        form: What it holds: INT, FLOAT, BYTES, or the name of a message.
        times: ONCE: it is kept. EACH: any number, all kept. MANY: any number, none kept.
    """

    name: str
    form: str
    times: int = ONCE


NOTES = Field("metadata_props", BYTES, MANY)  # these and `doc_string` are for people to read
MESSAGES: Mapping[str, Mapping[int, Field]] = {
    "ModelProto": {
        1: Field("ir_version", INT),
        2: Field("producer_name", BYTES),
        3: Field("producer_version", BYTES),
        6: Field("doc_string", BYTES),
        7: Field("graph", "GraphProto"),
        8: Field("opset_import", "OperatorSetIdProto", EACH),
        14: NOTES,
    },
    "OperatorSetIdProto": {1: Field("domain", BYTES), 2: Field("version", INT)},
    "GraphProto": {
        1: Field("node", "NodeProto", MANY),
        2: Field("name", BYTES),
        5: Field("initializer", "TensorProto", MANY),
        10: Field("doc_string", BYTES),
        11: Field("input", "ValueInfoProto", MANY),
        12: Field("output", "ValueInfoProto", MANY),
        13: Field("value_info", BYTES, MANY),
        16: NOTES,
    },
    "NodeProto": {
        1: Field("input", BYTES, MANY),
        2: Field("output", BYTES, MANY),
        3: Field("name", BYTES),
        4: Field("op_type", BYTES),
        5: Field("attribute", "AttributeProto", MANY),
        6: Field("doc_string", BYTES),
        7: Field("domain", BYTES),
        9: NOTES,
    },
    "AttributeProto": {
        1: Field("name", BYTES),
        2: Field("f", FLOAT),
        3: Field("i", INT),
        4: Field("s", BYTES),
        5: Field("t", "TensorProto"),
        6: Field("g", "GraphProto"),
        8: Field("ints", INT, MANY),
        13: Field("doc_string", BYTES),
        20: Field("type", INT),
    },
    "TensorProto": {
        1: Field("dims", INT, MANY),
        2: Field("data_type", INT),
        4: Field("float_data", FLOAT, MANY),
        5: Field("int32_data", INT, MANY),
        7: Field("int64_data", INT, MANY),
        8: Field("name", BYTES),
        9: Field("raw_data", BYTES),
        12: Field("doc_string", BYTES),
        13: Field("external_data", "StringStringEntryProto", EACH),
        14: Field("data_location", INT),
        16: NOTES,
    },
    "StringStringEntryProto": {1: Field("key", BYTES), 2: Field("value", BYTES)},
    "ValueInfoProto": {
        1: Field("name", BYTES),
        2: Field("type", "TypeProto"),
        3: Field("doc_string", BYTES),
        4: NOTES,
    },
    "TypeProto": {1: Field("tensor_type", "TypeProto.Tensor"), 6: Field("denotation", BYTES)},
    "TypeProto.Tensor": {1: Field("elem_type", INT), 2: Field("shape", "TensorShapeProto")},
    "TensorShapeProto": {1: Field("dim", "Dimension", MANY)},
    "Dimension": {1: Field("dim_value", INT), 2: Field("dim_param", BYTES), 3: Field("denotation", BYTES)},
}
REFUSED = {  # for errors: those that an exporter of ours never writes and that somebody may have put there
    "ModelProto": {4: "domain", 5: "model_version", 20: "training_info", 25: "functions", 26: "configuration"},
    "GraphProto": {14: "quantization_annotation", 15: "sparse_initializer"},
    "NodeProto": {8: "overload", 10: "device_configurations"},
    "AttributeProto": {
        7: "floats",
        9: "strings",
        10: "tensors",
        11: "graphs",
        14: "tp",
        15: "type_protos",
        21: "ref_attr_name",
        22: "sparse_tensor",
        23: "sparse_tensors",
    },
    "TensorProto": {3: "segment", 6: "string_data", 10: "double_data", 11: "uint64_data"},
}


def _tags(fields: Mapping[int, Field]) -> dict[int, Field]:
    """Return the fields by tag. Repeated numbers may also be written as one string of them ("packed")."""
    tags = {number << 3 | WIRE.get(field.form, 2): field for number, field in fields.items()}
    packed = {
        number << 3 | 2: field._replace(form=BYTES)
        for number, field in fields.items()
        if field.form in WIRE and field.times == MANY
    }
    return tags | packed


TAGS = {name: _tags(fields) for name, fields in MESSAGES.items()}


class Walk:
    """One reading of a file."""

    def __init__(self, content: Content, checks: Checks, depth: int) -> None:
        """Prepare to read a file.

        Args:
            content: Of the file.
            checks: By the name of a message, what to call with the fields of each that has been read.
            depth: How many graphs may be inside one another, besides the outermost.
        """
        self._content = content
        self._checks = checks
        self._graphs_left = depth + 1
        self._fields_left = MOST_FIELDS

    def run(self) -> None:
        """Read the file.

        Raises:
            ValueError: It is malformed, has a field that is not in MESSAGES, or more of something than is allowed.
        """
        self._message("ModelProto", 0, len(self._content))

    def _message(self, form: str, at: int, end: int) -> Found:
        """Return the fields of a message that goes from `at` to `end`."""
        if form == "GraphProto":
            self._enter_graph()
        content, tags = self._content, TAGS[form]
        found: Found = {}
        while at < end:
            # Most tags and numbers are one byte; to read these here halves the time.
            tag, at = (content[at], at + 1) if content[at] < 128 else self._number(at, end)
            name, inner, times = tags.get(tag) or _refuse(form, tag)
            value: Any = 4  # bytes of a float
            if tag & 7 != WIRE[FLOAT]:
                value, at = (content[at], at + 1) if at < end and content[at] < 128 else self._number(at, end)
            if tag & 7 != WIRE[INT]:
                start, at = at, at + value
                if at > end:
                    raise ValueError(f"it is cut off, or the length of {name} in {form} is wrong")
                value = self._message(inner, start, at) if inner in TAGS else slice(start, at)
            self._note(found, name, value, times)
        if form == "GraphProto":
            self._graphs_left += 1
        if form in self._checks:
            self._checks[form](found)
        return found

    def _note(self, found: Found, name: str, value: Any, times: int) -> None:
        """Keep a field's value, if it is one to keep."""
        self._fields_left -= 1
        if self._fields_left < 0:
            raise ValueError(f"it has more than {MOST_FIELDS} fields")
        if times == EACH:
            found.setdefault(name, []).append(value)
        elif times == ONCE:
            if name in found:  # of which the last would count, or both, merged
                raise ValueError(f"it has {name} twice in one place")
            found[name] = value

    def _enter_graph(self) -> None:
        self._graphs_left -= 1
        if self._graphs_left < 0:
            raise ValueError("it has graphs inside one another, deeper than any of ours")

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """Return the number that begins at `at`, and where it ends: seven bits a byte, the lowest first ("varint")."""
        content, number = self._content, 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise ValueError("it is cut off in a number")
            byte, at = content[at], at + 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number, at
        raise ValueError("a number in it has more than ten bytes")


def _refuse(form: str, tag: int) -> Field:
    """Refuse a field that no exporter of ours writes.

    Raises:
        ValueError: Always.
    """
    number = tag >> 3
    if number in MESSAGES[form]:
        raise ValueError(f"{form} has {MESSAGES[form][number].name} of another type")
    name = REFUSED.get(form, {}).get(number, f"a field {number}")
    raise ValueError(f"{form} has {name}, which no graph of ours has")
