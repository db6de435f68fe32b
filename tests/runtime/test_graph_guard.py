"""What a bundle's graphs may hold. The files here are the real ones with bytes changed, or written field by field."""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace

import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort.bundle.integrity import check_place
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import File, Variant
from diffutron_ort.errors import BundleError, BundleFileError
from diffutron_ort.runtime import graph_guard, onnx_fields
from diffutron_ort.runtime.generation import Generation
from diffutron_ort.runtime.graph_guard import (
    DENOISER,
    GENERATION,
    PLAIN,
    Weights,
    check_graph,
    check_graphs,
    checked_graph,
)
from diffutron_ort.runtime.session import Session

BUNDLE = load_bundle()
KINDS = {"fp32": DENOISER, "int8": DENOISER, "fp32 generation": GENERATION, "int8 generation": GENERATION}
LOCATION = b"denoiser.onnx.data"
WEIGHTS = Weights(LOCATION.decode(), 15725468)


def real(name):
    """Return the bytes of a graph, what kind it is, and its weights."""
    variant = BUNDLE.variants[name.split()[0]]
    path = variant.generate if KINDS[name] is GENERATION else variant.graph
    weights = Weights(variant.weights.removeprefix("onnx/"), BUNDLE.files[variant.weights].size)
    return (BUNDLE.folder / path).read_bytes(), KINDS[name], weights


def number(value):
    """Return a varint."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def field(tag, *parts):
    """Return a field whose value has a length before it."""
    value = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return number(tag << 3 | 2) + number(len(value)) + value


def integer(tag, value):
    return number(tag << 3) + number(value)


def entry(key, value):
    return field(13, field(1, key), field(2, value))


def node(op, *more):
    return field(1, field(2, "y"), field(4, op), *more)


OPSET = field(8, field(1, ""), integer(2, 23))
OUTSIDE = (integer(14, 1), entry("location", "/etc/passwd"))
INSIDE = (integer(14, 1), entry("location", LOCATION))


def model(*graph, opset=OPSET, more=b""):
    """Return an ONNX file."""
    return integer(1, 10) + opset + field(7, *graph) + more


def initializer(*parts):
    return field(5, field(8, "w"), *parts)


def attribute(tag, *parts):
    return field(5, field(1, "a"), field(tag, *parts))


def refused(content, match, kind=GENERATION, weights=WEIGHTS):
    with pytest.raises(BundleError, match=match) as caught:
        check_graph(content, kind, weights, "graph.onnx")
    assert "graph.onnx" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", KINDS)
def test_what_the_exporter_wrote_passes(name):
    check_graph(*real(name))


def test_all_graphs_of_a_bundle_are_checked():
    assert check_graphs(BUNDLE) == 4


def test_what_is_written_here_passes_until_something_is_wrong_with_it():
    check_graph(model(initializer(*INSIDE), node("Add"), node("If", attribute(6, node("Add")))), GENERATION, WEIGHTS)


@pytest.mark.parametrize(
    "location",
    [
        "../../etc/hostname",
        "/etc/hostname",
        "./denoiser.onnx.data",
        "denoiser.onnx.data/",
        "x/../denoiser.onnx.data",
        "../onnx/denoiser.onnx.data",
        "denoiser.onnx.data\0",
        "DENOISER.onnx.data",
        "denoiser_int8.onnx.data",
        "denoiser.onnx",
        "*/_ORT_MEM_ADDR_/*",
        "",
        "file:denoiser.onnx.data",
        "denoiser.onnx.data ",
        "denоiser.onnx.data",  # a Cyrillic letter
        "x" * 10_000,
    ],
)
def test_a_location_is_the_weights_as_they_are_written_in_the_manifest(location):
    for said in ([integer(14, 1)], []):  # also where the data are not said to be outside
        tensor = (field(8, "w"), *said, entry("location", location))
        refused(model(field(5, *tensor)), "reads the file")
        refused(model(node("Constant", attribute(5, *tensor))), "reads the file")
        branch = attribute(6, node("If", attribute(6, field(5, *tensor))))
        refused(model(node("If", branch)), "reads the file")


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([], "reads the file ''"),
        ([entry("offset", "0")], "reads the file ''"),
        ([entry("location", LOCATION), entry("location", "/etc/passwd")], "the keys 'location, location'"),
        ([entry("location", "/etc/passwd"), entry("location", LOCATION)], "the keys"),
        ([entry("location", LOCATION), entry("location", LOCATION)], "the keys"),
        ([entry("location", LOCATION), entry("checksum", "0")], "the keys"),
        ([entry("location", LOCATION), entry("basepath", "/etc")], "the keys"),
        ([entry("location", LOCATION), entry("", "")], "the keys"),
        ([entry("location", LOCATION), entry("Location", "/etc/passwd")], "the keys"),
        ([field(13, field(1, "location"), field(2, LOCATION), field(2, "/etc/passwd"))], "value twice"),
        ([field(13, field(1, "offset"), field(1, "location"), field(2, LOCATION))], "key twice"),
        ([field(13, field(2, LOCATION))], "the keys"),
        *(
            ([entry("location", LOCATION), entry("offset", odd)], "of weights that have 15725468 bytes")
            for odd in (
                "-1",
                "+1",
                "1.0",
                "0x10",
                "",
                " 1",
                "1_0",
                "1e3",
                "٣",
                "15725469",
                "9" * 19,
                "9" * 10_000,
                "\0",
            )
        ),
        ([entry("location", LOCATION), entry("length", "15725469")], "weights that have"),
        ([entry("location", LOCATION), entry("offset", "15725468"), entry("length", "1")], "weights that have"),
        ([entry("location", LOCATION), entry("offset", str(2**63)), entry("length", str(2**63))], "weights that have"),
    ],
)
def test_what_is_said_of_data_outside_is_checked(entries, match):
    refused(model(initializer(integer(14, 1), *entries)), match)
    refused(model(initializer(*entries, integer(14, 1))), match)


def test_all_of_the_weights_may_be_read():
    said = (entry("location", LOCATION), entry("offset", "15725467"), entry("length", "1"))
    check_graph(model(initializer(integer(14, 1), *said)), DENOISER, WEIGHTS)


def test_a_graph_without_weights_beside_it_names_none():
    refused(model(initializer(*INSIDE)), "the manifest lists no weights beside it", weights=None)
    check_graph(model(initializer(field(9, b"1234"))), DENOISER, None)


SPARSE = field(1, *OUTSIDE)
FUNCTION = field(25, field(1, "f"), field(7, field(4, "Constant"), attribute(5, *OUTSIDE)))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (model(field(15, SPARSE)), "GraphProto has sparse_initializer"),
        (model(node("Constant", attribute(22, SPARSE))), "AttributeProto has sparse_tensor"),
        (model(node("Constant", attribute(23, SPARSE))), "AttributeProto has sparse_tensors"),
        (model(node("Constant", attribute(10, *OUTSIDE))), "AttributeProto has tensors"),
        (model(node("If", attribute(11, initializer(*OUTSIDE)))), "AttributeProto has graphs"),
        (model(node("If", attribute(15, b""))), "AttributeProto has type_protos"),
        (model(node("If", attribute(21, "x"))), "AttributeProto has ref_attr_name"),
        (model(field(14, b"")), "GraphProto has quantization_annotation"),
        (model(more=FUNCTION), "ModelProto has functions"),
        (model(more=field(20, field(1, initializer(*OUTSIDE)))), "ModelProto has training_info"),
        (model(more=field(99, b"")), "ModelProto has a field 99"),
        (model(more=field(2**28, b"")), "ModelProto has a field 268435456"),
        (model(more=integer(0, 0)), "ModelProto has a field 0"),
        (model(more=field(7, initializer(*INSIDE))), "graph twice"),
        (model(initializer(*INSIDE), more=field(7, b"")), "graph twice"),
        (model(node("Constant", field(5, field(5, *INSIDE), field(5, *INSIDE)))), "t twice"),
        (model(node("If", field(5, field(6, b""), field(6, initializer(*INSIDE))))), "g twice"),
        (model(node("Add", field(4, "Add"))), "op_type twice"),
        (model(node("Add", field(8, "x"))), "NodeProto has overload"),
        (model(field(12, field(2, field(4, b"")))), "TypeProto has a field 4"),
        (model(node("Add", field(7, "com.microsoft"))), "the operator 'com.microsoft.Add'"),
        (model(node("Add", field(7, "ai.onnx"))), "the operator 'ai.onnx.Add'"),
        (model(node("ReduceSumSquare")), "the operator 'ReduceSumSquare'"),
        (model(node("add")), "the operator 'add'"),
        (model(node("")), "the operator ''"),
        (model(node("Add\0")), "the operator"),
        (model(node("x" * 10**6)), r"the operator 'x+\.\.\.x+'"),
        (model(node("\u202e\x1b[2J")), r"the operator '\\u202e\\x1b\[2J'"),
        (model(opset=b""), "one operator set"),
        (model(opset=OPSET + OPSET), "one operator set"),
        (model(opset=field(8, field(1, "com.microsoft"), integer(2, 1))), "imports operators of 'com.microsoft'"),
        (model(opset=field(8, field(1, ""), integer(2, 22))), "version 22"),
        (model(opset=field(8, integer(2, 2**64 - 1))), "version 18446744073709551615"),
        (model(opset=field(8, b"")), "version None"),
        (OPSET, "one graph"),
        (b"", "one graph"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_what_the_exporter_never_writes_is_refused(content, match):
    refused(content, match)


@pytest.mark.parametrize("op", ["Loop", "Scan", "Compress"])
def test_a_denoiser_has_no_loops(op):
    refused(model(node(op)), f"the operator '{op}'", kind=DENOISER)
    check_graph(model(node(op)), GENERATION, WEIGHTS)


def nested(depth):
    inner = node("Add")
    for _ in range(depth):
        inner = node("If", attribute(6, inner))
    return inner


@pytest.mark.parametrize(("kind", "depth"), [(DENOISER, 1), (GENERATION, 2), (PLAIN, 0)])
def test_graphs_are_inside_one_another_only_so_deep(kind, depth):
    content = model(nested(depth), nested(depth), opset=field(8, integer(2, kind.opsets[0])))
    check_graph(content, kind, WEIGHTS)
    refused(model(nested(1) if not depth else nested(depth + 1)), "deeper|operator", kind=kind)
    refused(model(nested(5_000)), "deeper|operator", kind=kind)


def test_onnxruntimes_own_format_is_refused_also_where_it_is_onnx_besides():
    """It goes by the fifth to the eighth byte, which can be those of a name."""
    polyglot = field(2, b"\0\0ORTM") + model()
    assert polyglot[4:8] == b"ORTM"
    refused(polyglot, "own format")
    check_graph(field(2, b"\0ORTM") + model(), GENERATION, WEIGHTS)


MALFORMED = {
    "a group": b"\x0b",
    "the end of a group": b"\x0c",
    "a wire type of none": b"\x0f",
    "a number that never ends": b"\x80" * 100,
    "a number that is cut off": b"\x08\x80",
    "a tag that is cut off": b"\x80",
    "a tag alone": b"\x08",
    "a length alone": b"\x3a",
    "a length beyond the end": b"\x3a\x7f",
    "a length of 2**63": b"\x3a" + number(2**63),
    "a length of 2**70": b"\x3a" + number(2**70 - 1),
    "a float that is cut off": model(node("Add", field(5, b"\x15\x00\x00"))),
    "a string where a number has to be": field(1, "x"),
    "a number where a string has to be": integer(2, 5),
    "an inner message longer than its outer": b"\x3a\x02\x0a\x7f" + b"x" * 200,
    "not at all": b"garbage",
    "zeroes": b"\0" * 1000,
    "text": b'{"a": 1}' * 100,
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_an_error_of_ours(content):
    refused(content, "is not a generation graph as this package exports it")


def test_numbers_may_be_packed():
    check_graph(model(initializer(field(1, b"\x02\x03"), field(7, b"\x01"))), DENOISER, WEIGHTS)


@pytest.mark.parametrize("content", [b"\x08\x01" * 10**6 + b"\x0f", field(7, field(5, b"\x08\x00" * 4 * 10**6))])
def test_a_file_of_many_fields_takes_seconds_at_most(content):
    start = time.process_time()
    refused(content, "twice|more than 2000000 fields")
    assert time.process_time() - start < 10


def test_it_costs_little():
    content, kind, weights = real("fp32")
    check_graph(content, kind, weights)

    def seconds():
        start = time.process_time()
        check_graph(content, kind, weights)
        return time.process_time() - start

    assert any(seconds() < 0.05 for _ in range(100))  # 0.005 where nothing else runs, and now and then on any machine


@st.composite
def mutants(draw):
    """A real graph with bytes changed, taken out, put in, or another's put after or into it."""
    content, kind, weights = draw(st.sampled_from([real(name) for name in KINDS]))
    other = draw(st.sampled_from([real(name)[0] for name in KINDS]))
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.integers(0, 40)))
        start = draw(st.integers(0, len(other) - 1))
        piece = other[start : start + draw(st.integers(0, 200))]
        content[at:end] = draw(st.one_of(st.binary(max_size=12), st.just(piece), st.just(bytes(content[at:end]) * 2)))
    cut = draw(st.one_of(st.none(), st.integers(0, len(content))))
    return bytes(content[:cut]), kind, weights


@given(mutants())
@settings(max_examples=300)
def test_mutants_raise_nothing_but_errors_of_ours(mutant):
    with suppress(BundleError):
        check_graph(*mutant)


@pytest.mark.parametrize("which", ["denoiser.onnx", "generate.onnx"])
def test_a_file_that_onnxruntime_would_read_is_refused_before_it_does(broken, which):
    """Any release maps another file of the folder; before 1.24.2 any file of the user."""
    path, other = broken / "onnx" / which, b"another.onnx.data_"[: len(LOCATION)]
    path.write_bytes(path.read_bytes().replace(LOCATION, other, 1))
    shutil.copyfile(broken / "onnx" / LOCATION.decode(), broken / "onnx" / other.decode())
    ort.InferenceSession(path)
    with pytest.raises(BundleError, match=f"{which} .* reads the file '{other.decode()}'"):
        opened(broken, which)


def opened(folder, which):
    """Open one of the graphs, as a bundle whose hashes were made to fit."""
    return (Session if which == "denoiser.onnx" else Generation)(replace(BUNDLE, folder=folder), threads=1)


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="only where there are links")
class TestLinks:
    """Files of a bundle lie in its folder, or where the Hub's cache keeps them."""

    @pytest.mark.parametrize("which", ["denoiser.onnx", "generate.onnx"])
    @pytest.mark.parametrize("target", ["graph", "weights"])
    def test_a_link_out_of_the_bundle_is_refused(self, broken, which, target):
        path = broken / "onnx" / (which if target == "graph" else LOCATION.decode())
        path.rename(broken.parent / "elsewhere")
        path.symlink_to(broken.parent / "elsewhere")
        with pytest.raises(BundleError, match="is a link to .*, out of the bundle"):
            opened(broken, which)

    def test_a_folder_of_it_that_is_a_link_is_refused(self, broken):
        (broken / "onnx").rename(broken.parent / "elsewhere")
        (broken / "onnx").symlink_to(broken.parent / "elsewhere")
        with pytest.raises(BundleError, match="is a link to .*, out of the bundle"):
            opened(broken, "denoiser.onnx")

    def test_a_link_inside_it_is_followed(self, broken):
        (broken / "onnx" / "denoiser.onnx").rename(broken / "onnx" / "x")
        (broken / "onnx" / "denoiser.onnx").symlink_to("x")
        opened(broken, "denoiser.onnx")

    def test_the_bundle_itself_may_be_a_link(self, broken):
        (broken.parent / "link").symlink_to(broken)
        opened(broken.parent / "link", "denoiser.onnx")

    def cached(self, broken):
        """Return a snapshot as the Hub's cache has it."""
        home = broken.parent / "models--owner--name"
        snapshot, blobs = home / "snapshots" / ("0" * 40), home / "blobs"
        (snapshot / "onnx").mkdir(parents=True)
        blobs.mkdir()
        for i, path in enumerate(sorted(p for p in broken.rglob("*") if p.is_file())):
            link = snapshot / path.relative_to(broken)
            path.rename(blobs / str(i))
            link.symlink_to(os.path.relpath(blobs / str(i), link.parent))
        return snapshot

    def test_the_hubs_cache_is_known(self, broken):
        snapshot = self.cached(broken)
        opened(snapshot, "denoiser.onnx")
        assert check_graphs(replace(BUNDLE, folder=snapshot)) == 4

    @pytest.mark.parametrize("target", ["../../refs", "../../../other", "../../blobs/../secret", "/etc/hostname"])
    def test_a_snapshot_has_no_links_but_into_its_own_blobs(self, broken, target):
        snapshot = self.cached(broken)
        (snapshot / "config.json").unlink()
        (snapshot / "config.json").symlink_to(target)
        with pytest.raises(BundleError, match="is a link to .*, out of the bundle"):
            check_place(snapshot, snapshot / "config.json")

    def test_blobs_that_are_elsewhere_are_not_the_repositorys(self, broken):
        snapshot = self.cached(broken)
        blobs = snapshot.parents[1] / "blobs"
        blobs.rename(broken.parent / "elsewhere")
        blobs.symlink_to(broken.parent / "elsewhere")
        with pytest.raises(BundleError, match="is a link to .*, out of the bundle"):
            opened(snapshot, "denoiser.onnx")

    def test_other_folders_have_no_blobs(self, broken):
        snapshot = self.cached(broken)
        snapshot.parents[1].rename(broken.parent / "name")
        with pytest.raises(BundleError, match="is a link to .*, out of the bundle"):
            opened(broken.parent / "name" / "snapshots" / snapshot.name, "denoiser.onnx")

    def test_links_in_a_circle_and_odd_names_are_errors_of_ours(self, broken):
        (broken / "a").symlink_to("b")
        (broken / "b").symlink_to("a")
        for name in ("a", "a/b", "\0"):
            with pytest.raises(BundleError):
                check_place(broken, broken / name)


def test_a_graph_that_is_not_there_or_no_file_is_an_error_of_ours(broken):
    bundle, fp32 = replace(BUNDLE, folder=broken), BUNDLE.variants["fp32"]
    (broken / fp32.graph).unlink()
    with pytest.raises(BundleFileError, match="is missing"):
        checked_graph(bundle, fp32, DENOISER)
    (broken / fp32.graph).mkdir()
    with pytest.raises(BundleError, match="not a regular file"):
        checked_graph(bundle, fp32, DENOISER)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only where there are pipes")
@pytest.mark.parametrize("alone", [True, False])
def test_a_pipe_is_not_waited_for(broken, alone):
    graph = "onnx/pipe.onnx"
    os.mkfifo(broken / graph)
    variant = Variant(graph, graph if alone else "onnx/denoiser.onnx.data", {})
    with pytest.raises(BundleError, match="not a regular file"):
        checked_graph(replace(BUNDLE, folder=broken), variant, PLAIN)


def test_a_graph_too_large_for_one_beside_its_weights_is_refused(broken, monkeypatch):
    monkeypatch.setattr(graph_guard, "MOST_BYTES", 1000)
    with pytest.raises(BundleError, match="more than 1000 bytes"):
        opened(broken, "denoiser.onnx")


def test_a_graph_that_holds_its_weights_is_read_without_them(broken, monkeypatch):
    """Optimum's are one file up to 2 GB."""
    monkeypatch.setattr(graph_guard, "MOST_BYTES", 1000)
    content = model(node("Add"), initializer(field(9, b"w" * 10**6)), opset=field(8, integer(2, 18)))
    (broken / "onnx" / "model.onnx").write_bytes(content)
    variant = Variant("onnx/model.onnx", "onnx/model.onnx", {})
    bundle = replace(BUNDLE, folder=broken, plain=variant)
    assert checked_graph(bundle, variant, PLAIN).name == "model.onnx"
    assert check_graphs(replace(bundle, variants={})) == 1
    (broken / "onnx" / "model.onnx").write_bytes(content.replace(b"Add", b"Sum"))
    with pytest.raises(BundleError, match="the operator 'Sum'"):
        check_graphs(replace(bundle, variants={}))
    (broken / "onnx" / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="cannot be read"):
        check_graphs(replace(bundle, variants={}))


@pytest.mark.parametrize("weights", ["config.json", "other/denoiser.onnx.data"])
def test_weights_out_of_the_graphs_folder_cannot_be_named(broken, weights):
    """A location has no way up."""
    (broken / "other").mkdir()
    (broken / weights).touch()
    files = {**BUNDLE.files, weights: File(10**9, "")}
    variant = replace(BUNDLE.variants["fp32"], weights=weights)
    with pytest.raises(BundleError, match="the manifest lists no weights beside it"):
        checked_graph(replace(BUNDLE, folder=broken, files=files), variant, DENOISER)


def test_every_message_that_is_read_into_is_in_the_table():
    for fields in onnx_fields.MESSAGES.values():
        for one in fields.values():
            assert one.form in (*onnx_fields.MESSAGES, "int", "float", "bytes")
