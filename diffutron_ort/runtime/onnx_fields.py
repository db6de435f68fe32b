"""Read the fields of an ONNX file from its bytes: those that our exporter writes, and no others.

An ONNX file is a protobuf message, `ModelProto`: fields, each a tag (its number, and how it is written) and a value,
which can be a message again. Only what a caller asks for is kept, so a file with its weights inside costs no more than
one without. Notes for people, and notes about values inside a graph, are skipped: they name no file and no code.
"""

from collections.abc import Callable, Mapping
from mmap import mmap
from typing import Any, NamedTuple, TypeAlias

Content: TypeAlias = bytes | mmap
Found: TypeAlias = dict[str, Any]  # by name: an int, a slice of the content, a message, or a list of these
Checks: TypeAlias = Mapping[str, Callable[[Found], None]]

MOST_FIELDS = 2_000_000  # a hundred times what the real size has; they take about a second

INT, FLOAT, BYTES = "int", "float", "bytes"
VARINT, LENGTH, FIXED = 0, 2, 5  # how a value is written: as one number, after its length, in four bytes
GRAPH = "GraphProto"
WIRE = {INT: VARINT, FLOAT: FIXED}  # all other forms have LENGTH
ONCE, EACH, MANY = range(3)


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: Its name.
        form: What it holds: INT, FLOAT, BYTES, or the name of a message.
        times: How often it may occur. ONCE: once, and it is kept; EACH: any number, all kept; MANY: any number, none
            kept.
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
        7: Field("graph", GRAPH),
        8: Field("opset_import", "OperatorSetIdProto", EACH),
        14: NOTES,
    },
    "OperatorSetIdProto": {1: Field("domain", BYTES), 2: Field("version", INT)},
    GRAPH: {
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
        6: Field("g", GRAPH),
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
REFUSED = {  # names, for errors, of fields that our exporter never writes
    "ModelProto": {4: "domain", 5: "model_version", 20: "training_info", 25: "functions", 26: "configuration"},
    GRAPH: {14: "quantization_annotation", 15: "sparse_initializer"},
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


class _Rule(NamedTuple):
    """What a tag stands for: a field, and how its value is written.

    Attributes:
        name: The field's name.
        message: The message that the value is; None if it is none.
        times: As for the field.
        wire: VARINT, FIXED or LENGTH.
    """

    name: str
    message: str | None
    times: int
    wire: int


def _rules(fields: Mapping[int, Field]) -> dict[int, _Rule]:
    """Return the rules of a message by tag. Repeated numbers may also be written as one string of them ("packed")."""
    rules = {}
    for number, (name, form, times) in fields.items():
        wire = WIRE.get(form, LENGTH)
        rules[number << 3 | wire] = _Rule(name, form if form in MESSAGES else None, times, wire)
        if wire != LENGTH and times == MANY:
            rules[number << 3 | LENGTH] = _Rule(name, None, times, LENGTH)
    return rules


RULES = {name: _rules(fields) for name, fields in MESSAGES.items()}


class Walk:
    """One reading of a file."""

    def __init__(self, content: Content, checks: Checks, depth: int) -> None:
        """Prepare to read a file.

        Args:
            content: The file's.
            checks: By the name of a message, what to call with the fields of each such message.
            depth: How deep graphs may be nested; 0 allows the outermost only.
        """
        self._content = content
        self._checks = checks
        self._graphs_left = depth + 1
        self._fields_left = MOST_FIELDS

    def run(self) -> None:
        """Read the file.

        Raises:
            ValueError: It is malformed, has a field that is not in MESSAGES, or exceeds a limit.
        """
        self._message("ModelProto", 0, len(self._content))

    def _message(self, form: str, at: int, end: int) -> Found:
        """Return the fields of a message that goes from `at` to `end`."""
        content, rules = self._content, RULES[form]
        found: Found = {}
        while at < end:
            # Most tags and numbers are one byte; to read these here halves the time.
            tag, at = (content[at], at + 1) if content[at] < 128 else self._number(at, end)
            name, message, times, wire = rules.get(tag) or _refuse(form, tag)
            value: Any = 4  # bytes of a float
            if wire != FIXED:
                value, at = (content[at], at + 1) if at < end and content[at] < 128 else self._number(at, end)
            if wire != VARINT:
                start, at = at, at + value
                if at > end:
                    raise ValueError(f"it is cut off, or the length of {name} in {form} is wrong")
                if message is not None:
                    value = (self._graph if message == GRAPH else self._message)(message, start, at)
                elif times != MANY:
                    value = slice(start, at)
            left = self._fields_left = self._fields_left - 1
            if left < 0:
                raise ValueError(f"it has more than {MOST_FIELDS} fields")
            if times != MANY:
                _keep(found, name, value, times)
        if form in self._checks:
            self._checks[form](found)
        return found

    def _graph(self, form: str, at: int, end: int) -> Found:
        """Return the fields of a graph, which may be inside another one."""
        self._graphs_left -= 1
        if self._graphs_left < 0:
            raise ValueError("it has graphs inside one another, deeper than any of ours")
        found = self._message(form, at, end)
        self._graphs_left += 1
        return found

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


def _keep(found: Found, name: str, value: Any, times: int) -> None:
    """Note the value of a field."""
    if times == EACH:
        found.setdefault(name, []).append(value)
    elif name in found:  # of two, the last would count, or both, merged
        raise ValueError(f"it has {name} twice in one place")
    else:
        found[name] = value


def _refuse(form: str, tag: int) -> _Rule:
    """Refuse a field that our exporter never writes.

    Raises:
        ValueError: Always.
    """
    number = tag >> 3
    if number in MESSAGES[form]:
        raise ValueError(f"{form} has {MESSAGES[form][number].name} of another type")
    name = REFUSED.get(form, {}).get(number, f"a field {number}")
    raise ValueError(f"{form} has {name}, which no graph of ours has")
