import json
import sys
from types import SimpleNamespace

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bundle import MANIFEST, load_bundle, sha256
from diffutron_ort.errors import BundleError, BundleFileError, OptionError


def edit_manifest(folder, change):
    path = folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.fixture
def no_libraries(monkeypatch):
    """Fail when a byte of a bundle reaches ONNX Runtime or tokenizers."""

    def reached(*_, **__):
        pytest.fail("a broken bundle was handed on")

    monkeypatch.setattr("diffutron_ort.model.Tokenizer", reached)
    monkeypatch.setattr("diffutron_ort.model.Session", reached)


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
        (lambda m: m.update(format=2), "has format 2: this release reads 1"),
        (lambda m: m.pop("format"), "has format None"),
        (lambda m: m.pop("special_ids"), "malformed: KeyError: 'special_ids'"),
        (lambda m: m.update(files=[]), "malformed"),
        (lambda m: m.update(context_length=0), "context_length is 0"),
        (lambda m: m.update(vocab_size="512"), "vocab_size is '512'"),
        (lambda m: m["files"].pop("tokenizer.json"), "'tokenizer.json' is not among its files"),
        (lambda m: m["variants"]["fp32"].update(graph="onnx/other.onnx"), "'onnx/other.onnx' is not among its files"),
        (lambda m: m.update(variants={}), "it has no variant"),
        *(
            (lambda m, ids=ids: m["special_ids"].update(ids), "special_ids are")
            for ids in ({"mask": "4"}, {"mask": None}, {"mask": 10**9}, {"mask": -1}, {"mask": 0}, {"mask": True})
        ),
        (lambda m: m.update(chat_template={}), "it lacks a role"),
        (lambda m: m["chat_template"].update(user="[Question]"), "a role its {content}"),
        (lambda m: m["stop_sequences"][0].update(ids=[]), "a stop sequence is empty"),
        (lambda m: m["stop_sequences"][0].update(text=""), "a stop sequence is empty"),
        (lambda m: m.update(least_onnxruntime="x"), "least_onnxruntime is 'x'"),
        *(
            (lambda m, name=name: m["files"].update({name: {"size": 1, "sha256": ""}}), "leaves the bundle's folder")
            for name in ("../secret", "/etc/passwd", "onnx/../../x", "C:x", "a\\b", "")
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(broken, change, found):
    edit_manifest(broken, change)
    with pytest.raises(BundleError, match=found):
        Diffutron.from_pretrained(broken)


@pytest.mark.parametrize("name", ["layers", "hidden_size", "vocab_size"])
def test_a_manifest_of_another_size_than_its_graph_is_refused(broken, name):
    edit_manifest(broken, lambda m: m.update({name: m[name] + 1}))
    with pytest.raises(BundleError, match=r"denoiser\.onnx has 6 layers of 256"):
        Diffutron.from_pretrained(broken)


def edit_options(folder, **options):
    """Write generation options, and vouch for them in the manifest."""
    path = folder / "generation_config.json"
    path.write_text(json.dumps(options))
    entry = {"size": path.stat().st_size, "sha256": sha256(path)}
    edit_manifest(folder, lambda m: m["files"].update({"generation_config.json": entry}))


def test_options_of_a_bundle_are_read_once_and_others_are_the_ecosystems(broken):
    edit_options(broken, steps=9, do_sample=True, suppress_tokens=None)
    bundle = load_bundle(broken)
    assert bundle.options == {"steps": 9}


@pytest.mark.parametrize("option", [{"temperature": -1}, {"steps": "many"}])
def test_options_of_a_bundle_without_a_meaning_are_named_with_their_file(broken, option):
    edit_options(broken, **option)
    with pytest.raises(BundleError, match=r"generation_config\.json: (temperature|steps)="):
        load_bundle(broken)


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", "[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(broken, content):
    (broken / MANIFEST).write_text(content, "latin-1")
    with pytest.raises(BundleError, match=MANIFEST):
        load_bundle(broken)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleFileError, match=r"diffutron\.json is missing: a bundle is a folder that"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "./no/where", "/no/where", "", "../x", "a" * 5000, "a\0b"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        load_bundle(name)


@pytest.fixture
def hub(broken, tmp_path, monkeypatch):
    """Play the Hub's cache, in which files are links into a folder of blobs, and note what is asked of it."""
    cache, asked = tmp_path / "snapshots" / ("0" * 40), []
    for path in sorted(broken.rglob("*.*")):
        blob, link = tmp_path / "blobs" / path.name, cache / path.relative_to(broken)
        blob.parent.mkdir(exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        link.symlink_to(blob)

    def snapshot_download(hub_id, *, revision, local_files_only=False, **_):
        if local_files_only and not asked:
            raise FileNotFoundError("nothing is in the cache yet")
        asked.append((hub_id, revision))
        return str(cache)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    return SimpleNamespace(asked=asked, blobs=tmp_path / "blobs")


def test_a_bundle_of_the_hub_runs_from_its_cache(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = Diffutron.from_pretrained("owner/name", revision="v1")
    assert hub.asked == [("owner/name", "v1")]
    assert isinstance(model.generate("x", max_new_tokens=2, steps=1), str)


def test_weights_are_hashed_when_they_are_downloaded(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    weights = hub.blobs / "denoiser.onnx.data"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"denoiser\.onnx\.data was changed"):
        load_bundle("owner/name")
    assert not weights.exists()  # or the next call would take it from the cache, unhashed
    with pytest.raises(BundleFileError, match=r"denoiser\.onnx\.data is missing"):
        load_bundle("owner/name")


def test_weights_that_were_in_the_cache_are_not_hashed_again(hub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    hashed = []
    monkeypatch.setattr("diffutron_ort.bundle.sha256", lambda path: hashed.append(path.name) or sha256(path))
    load_bundle("owner/name")
    load_bundle("owner/name")
    assert hashed.count("denoiser.onnx.data") == 1
    assert hashed.count("tokenizer.json") == 2


def test_a_download_that_fails_is_an_error_of_ours(monkeypatch, tmp_path):
    def snapshot_download(*_, **__):
        raise OSError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(BundleFileError, match="owner/name cannot be downloaded: no route to host"):
        load_bundle("owner/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BundleFileError, match=r"pip install 'diffutron-ort\[hub\]'"):
        load_bundle("owner/name")


def test_a_folder_has_no_revisions(broken):
    with pytest.raises(OptionError, match="revision='main'"):
        load_bundle(broken, "main")


@pytest.mark.parametrize("model", [5, b"models/nano", ["models/nano"]])
def test_what_names_no_model_is_refused(model):
    with pytest.raises(OptionError, match="must be a folder or a hub id"):
        load_bundle(model)


def test_the_embedded_model_has_no_revisions():
    with pytest.raises(OptionError, match="revision='main'"):
        load_bundle(None, "main")


def test_a_variant_that_is_not_there_is_refused(broken):
    with pytest.raises(OptionError, match="variant='int3'.*fp32"):
        Diffutron.from_pretrained(broken, variant="int3")
