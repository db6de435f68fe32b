"""Load bundles: refuse missing, damaged and malformed files before a byte of them reaches a library."""

import json
import os

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bundle.integrity import sha256
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.errors import BundleError, BundleFileError, DiffutronError, OptionError


def edit_manifest(folder, change):
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.fixture
def no_libraries(monkeypatch):
    """Fail the test if a bundle reaches ONNX Runtime or tokenizers."""

    def reached(*_, **__):
        pytest.fail("a broken bundle reached a library")

    monkeypatch.setattr("diffutron_ort.loading.Tokenizer", reached)
    monkeypatch.setattr("diffutron_ort.loading.Session", reached)


def test_the_embedded_bundle_is_whole():
    bundle = load_bundle()
    assert bundle.context_length == 256
    assert bundle.special.mask == 4
    assert [text for text, _ in bundle.stop_sequences] == ["[/Answer]"]
    assert bundle.variants["fp32"].graph == "onnx/denoiser.onnx"
    assert bundle.options == {"repetition_penalty": 1.0, "temperature": 0.0}


NAMES = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "onnx/denoiser.onnx",
    "onnx/denoiser.onnx.data",
]


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(broken, name):
    (broken / name).unlink()
    with pytest.raises(BundleFileError, match=f"{name} is missing"):
        Diffutron.from_pretrained(broken)
    with pytest.raises(FileNotFoundError):
        Diffutron.from_pretrained(broken)


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"model": ""}, "an empty name is not a folder"),
        ({"model": b"x"}, "model=b'x'"),
        ({"variant": ["int8"]}, r"variant=\['int8'\]: .* has fp32, int8"),
        ({"variant": {}}, "variant={}"),
        ({"variant": 3}, "variant=3"),
        ({"revision": 3}, "revision=3: must be a commit, tag or branch"),
        ({"model": "owner/name", "revision": ["v1"]}, r"revision=\['v1'\]"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(arguments, found):
    with pytest.raises(DiffutronError, match=found):
        Diffutron.from_pretrained(**arguments)


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_named(broken, name):
    content = (broken / name).read_bytes()
    (broken / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name} has {len(content) - 1} bytes, not {len(content)}"):
        Diffutron.from_pretrained(broken)


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.parametrize("name", NAMES[:-1])  # loading maps the weights and does not read them
def test_an_altered_file_is_named(broken, name):
    content = bytearray((broken / name).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was changed"):
        Diffutron.from_pretrained(broken)


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda m: m.update(format=3), "has format 3, and this release reads format 2; upgrade it: pip install"),
        (lambda m: m.update(format=0), "bundle of format 0, which this release does not read; export the model again"),
        (lambda m: m.pop("format"), "has format None; this release reads format 2"),
        (lambda m: m.update(format="2"), "has format '2'; this release reads format 2"),
        (lambda m: m.pop("special_ids"), "has no special_ids"),
        (lambda m: m.update(files=[]), "files is \\[\\], expected an object"),
        (lambda m: m.update(context_length=0), "context_length is 0"),
        (lambda m: m.update(vocab_size="512"), "vocab_size is '512'"),
        (lambda m: m["files"].pop("tokenizer.json"), "'tokenizer.json' is not listed in its files"),
        (
            lambda m: m["variants"]["fp32"].update(graph="onnx/other.onnx"),
            "'onnx/other.onnx' is not listed in its files",
        ),
        *(
            (
                lambda m, of=of, name=name: of(m).update(graph=name, weights=name),
                f"graph is '{name}', which belongs to no variant",
            )
            for of in (lambda m: m["variants"]["int8"], lambda m: m.setdefault("plain", {}))
            for name in ("tokenizer.json", "generation_config.json")
        ),
        (
            lambda m: m["files"]["config.json"].update(size=2**26 + 1),
            "config.json has 67108865 bytes; only weights may exceed 67108864",
        ),
        (lambda m: m.update(variants={}), "variants is {}, expected at least one"),
        *(
            (lambda m, ids=ids: m["special_ids"].update(ids), "special_ids")
            for ids in ({"mask": "4"}, {"mask": None}, {"mask": 10**9}, {"mask": -1}, {"mask": 0}, {"mask": True})
        ),
        (lambda m: m.update(chat_template={}), "chat_template has no system"),
        (lambda m: m["chat_template"].update(user="[Question]"), "user is .*expected a text with {content}"),
        (lambda m: m["stop_sequences"][0].update(ids=[]), "a stop sequence is empty"),
        (lambda m: m["stop_sequences"][0].update(text=""), "a stop sequence is empty"),
        (lambda m: m.update(least_onnxruntime="x"), "least_onnxruntime is 'x'"),
        *(
            (
                lambda m, name=name: m["files"].update({name: {"size": 1, "sha256": "0" * 64}}),
                "leads out of the bundle's folder",
            )
            for name in ("../secret", "/etc/passwd", "onnx/../../x", "C:x", "a\\b", "")
        ),
    ],
)
def test_a_malformed_manifest_is_refused(broken, change, found):
    edit_manifest(broken, change)
    with pytest.raises(BundleError, match=found):
        Diffutron.from_pretrained(broken)


@pytest.mark.parametrize(
    ("name", "found"), [("layers", "6 layers"), ("hidden_size", "256 hidden"), ("vocab_size", "2023 columns")]
)
def test_a_manifest_whose_sizes_differ_from_the_graph_is_refused(broken, name, found):
    edit_manifest(broken, lambda m: m.update({name: m[name] + 1}))
    with pytest.raises(BundleError, match=rf"denoiser\.onnx has {found} in [\w.]+, but its manifest says"):
        Diffutron.from_pretrained(broken)


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ({"name": "nano", "revision": None, "adapter": None}, "diffutron-ort export nano OUT"),
        ({"name": "a/B-0.3", "revision": "0123ab"}, "diffutron-ort export a/B-0.3 OUT --revision 0123ab"),
        ({"name": "a/b", "adapter": "lora"}, "diffutron-ort export a/b OUT --adapter lora"),
        ({"name": "a/b; rm -rf ~", "revision": "$(id)"}, "diffutron-ort export SOURCE OUT"),
        ({"name": ["a/b"], "revision": 5}, "diffutron-ort export SOURCE OUT"),
        ("nano", "diffutron-ort export SOURCE OUT"),
        (None, "diffutron-ort export SOURCE OUT"),
    ],
)
def test_a_bundle_of_format_1_is_refused_with_the_command_that_exports_it_again(broken, source, command):
    edit_manifest(broken, lambda m: m.update(format=1, source=source))
    with pytest.raises(BundleError, match="describes a bundle of format 1, which this release does not read") as caught:
        Diffutron.from_pretrained(broken)
    assert str(caught.value).endswith(f"; export the model again: {command}")
    assert "\n" not in str(caught.value)


def edit_options(folder, **options):
    """Write generation options, and update their entry in the manifest."""
    path = folder / "generation_config.json"
    path.write_text(json.dumps(options))
    entry = {"size": path.stat().st_size, "sha256": sha256(path)}
    edit_manifest(folder, lambda m: m["files"].update({"generation_config.json": entry}))


def test_our_options_are_read_and_those_of_other_libraries_ignored(broken):
    edit_options(broken, steps=9, do_sample=True, suppress_tokens=None)
    bundle = load_bundle(broken)
    assert bundle.options == {"steps": 9}


@pytest.mark.parametrize("option", [{"temperature": -1}, {"steps": "many"}])
def test_a_bad_option_of_a_bundle_is_named_with_its_file(broken, option):
    edit_options(broken, **option)
    with pytest.raises(BundleError, match=r"generation_config\.json: (temperature|steps)="):
        load_bundle(broken)


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", "[" * 100_000])
def test_a_manifest_that_is_not_an_object_is_refused(broken, content):
    (broken / MANIFEST).write_text(content, "latin-1")
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(broken)


def test_only_the_files_of_the_requested_variant_are_needed(broken):
    for name in ("denoiser.onnx", "denoiser.onnx.data", "generate.onnx"):
        (broken / "onnx" / name).unlink()
    assert Diffutron.from_pretrained(broken, variant="int8").generate("On iki artı beş kaç eder?") == "on yedi"
    assert repr(Diffutron.from_pretrained(broken).forward).startswith("int8 on cpu")  # the only variant left
    with pytest.raises(BundleFileError, match=r"denoiser\.onnx is missing.*or use variant 'int8'"):
        Diffutron.from_pretrained(broken, variant="fp32")


def test_an_incomplete_variant_is_not_skipped(broken):
    (broken / "onnx" / "denoiser.onnx.data").unlink()
    with pytest.raises(BundleFileError, match=r"denoiser\.onnx\.data is missing"):
        Diffutron.from_pretrained(broken)


@pytest.mark.parametrize("name", NAMES)
def test_a_link_out_of_the_bundle_is_not_followed(broken, tmp_path, name):
    (broken / name).rename(tmp_path / "secret")
    (broken / name).symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="is a link to .*out of the bundle"):
        load_bundle(broken)


def test_a_link_inside_the_bundle_and_to_it_is_followed(broken, tmp_path):
    (broken / "config.json").rename(broken / "other.json")
    (broken / "config.json").symlink_to("other.json")
    (tmp_path / "link").symlink_to(broken)
    assert load_bundle(tmp_path / "link").folder == tmp_path / "link"


@pytest.mark.parametrize("name", [MANIFEST, *NAMES])
@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "circle"])
def test_a_file_that_is_not_regular_is_refused_at_once(broken, name, kind):
    path = broken / name
    path.unlink()
    {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "endless": lambda: path.symlink_to("/dev/zero"),
        "circle": lambda: path.symlink_to(path.name),
    }[kind]()
    with pytest.raises(BundleError, match=name):
        load_bundle(broken)


def test_an_integer_may_be_written_as_a_float(broken):
    edit_manifest(broken, lambda m: m.update(context_length=256.0))
    assert load_bundle(broken).context_length == 256


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"]["config.json"].update(size=" 1_510 "),
        lambda m: m["files"]["config.json"].update(size=-1),
        lambda m: m["files"]["config.json"].update(sha256="A" * 64),
        lambda m: m["files"].update({"onnx/*": {"size": 1, "sha256": "0" * 64}}),
        lambda m: m["files"].update({".git/config": {"size": 1, "sha256": "0" * 64}}),
        lambda m: m.update(format=True),
        lambda m: m.update(context_length=10**18),
        lambda m: m.update(layers=10**7),
        lambda m: m.update(source=[]),
        lambda m: m.update(source={"name": 5}),
        lambda m: m["special_ids"].update(extra=9),
        lambda m: m["stop_sequences"][0].update(ids=[10**6]),
        lambda m: m["variants"]["fp32"].update(batch_invariant="yes"),
        lambda m: m["variants"]["fp32"].update(providers="cpu"),
        lambda m: m["variants"]["fp32"].update(providers=[]),
        lambda m: m["variants"]["fp32"].update(providers=[None]),
        lambda m: m["variants"]["fp32"].update(providers=["cp\x1bu"]),
        lambda m: m["variants"].update({"a\x1bb": m["variants"]["fp32"]}),
        lambda m: m.update(output_vocabulary=[4, 3]),
        lambda m: m.update(plain=[]),
    ],
)
def test_values_of_wrong_types_and_sizes_are_refused(broken, change):
    edit_manifest(broken, change)
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(broken)


def test_an_unknown_variant_is_refused(broken):
    with pytest.raises(OptionError, match="variant='int3'.*fp32"):
        Diffutron.from_pretrained(broken, variant="int3")


def keys(**said):
    """Return a change of what the manifest says about int8."""

    def change(manifest):
        variant = manifest["variants"]["int8"]
        variant.update({"batch_invariant": None, "providers": None} | said)

    return change


@pytest.mark.parametrize(
    ("said", "batch_invariant", "providers"),
    [
        ({}, True, None),
        ({"batch_invariant": True}, True, None),
        ({"batch_invariant": False}, False, None),
        ({"batch_invariant": False, "providers": ["cpu", "openvino"]}, False, ("cpu", "openvino")),
        ({"batch_invariant": True, "providers": ["cpu"]}, True, ("cpu",)),
    ],
)
def test_a_variant_says_whether_it_is_batch_invariant_and_where_it_runs(broken, said, batch_invariant, providers):
    edit_manifest(broken, keys(**said))
    variant = load_bundle(broken).variants["int8"]
    assert (variant.batch_invariant, variant.providers) == (batch_invariant, providers)
    assert variant.runs_on("cpu")
    assert variant.runs_on("cuda") == (providers is None)


def cards(**errors):
    """Return a change that leaves fp32's variant under other names, each with an error or with none."""

    def change(manifest):
        variant = manifest["variants"]["fp32"]
        manifest["variants"] = {
            name: variant | {"fidelity": {"agreement": 1.0} if error is None else {"max_abs_over_std": error}}
            for name, error in errors.items()
        }

    return change


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ({"first": None, "second": None}, "first"),
        ({"quick": None, "exact": 1e-5}, "exact"),
        ({"exact": 1e-5, "more_exact": 1e-6}, "more_exact"),
        ({"one": 1e-5, "other": 1e-5}, "one"),
    ],
)
def test_the_most_exact_variant_is_the_default_else_the_first(broken, errors, expected):
    edit_manifest(broken, cards(**errors))
    bundle = load_bundle(broken)
    assert bundle.first_variant == bundle.default_variant == expected
    assert bundle.variants[expected].is_exact == (errors[expected] is not None)


def test_nanos_default_is_fp32(broken):
    assert load_bundle(broken).default_variant == load_bundle(None).first_variant == "fp32"
