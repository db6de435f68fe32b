"""Bundles on the Hub: which files are downloaded, and when they are hashed."""

import sys

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bundle import integrity
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.cli.main import main
from diffutron_ort.errors import BundleError, BundleFileError, OptionError
from tests.bundle.fake_hub import COMMIT, Hub, install

WEIGHTS, INT8 = "onnx/denoiser.onnx.data", "onnx/denoiser_int8.onnx.data"


@pytest.fixture
def hub(broken, tmp_path, monkeypatch):
    hub = Hub(broken, tmp_path / "models--owner--name")
    install(hub.snapshot_download, monkeypatch)
    monkeypatch.setenv("DIFFUTRON_CACHE", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return hub


@pytest.fixture
def hashed(monkeypatch):
    """The names of the weights that are hashed, in order."""
    names = []
    sha256 = integrity.sha256

    def noted(path):
        if path.suffix == ".data":
            names.append(path.name)
        return sha256(path)

    monkeypatch.setattr(integrity, "sha256", noted)
    return names


def damage(path):
    """Change a byte of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_bundle_of_the_hub_runs_from_its_cache(hub):
    model = Diffutron.from_pretrained("owner/name", revision="v1")
    assert model.generate("On iki artı beş kaç eder?") == "on yedi"
    # The files are of the manifest's commit, even if the branch has moved meanwhile.
    assert hub.asked == [("owner/name", "v1"), ("owner/name", COMMIT)]


def test_only_the_files_of_the_requested_variant_are_downloaded(hub):
    load_bundle("owner/name", variant="int8")
    assert {name for name in hub.fetched if name.startswith("onnx/")} == {
        "onnx/denoiser_int8.onnx",
        INT8,
        "onnx/generate_int8.onnx",
    }
    load_bundle("owner/name")
    assert WEIGHTS in hub.fetched
    assert len(hub.fetched) == len(set(hub.fetched))


def test_an_unknown_variant_is_refused_before_weights_are_downloaded(hub):
    with pytest.raises(OptionError, match="variant='int3'"):
        load_bundle("owner/name", variant="int3")
    assert hub.fetched == ["config.json", MANIFEST]


def test_weights_are_hashed_once(hub, hashed):
    load_bundle("owner/name")
    load_bundle("owner/name")
    assert hashed == ["denoiser.onnx.data"]
    load_bundle("owner/name", variant="int8")
    assert hashed == ["denoiser.onnx.data", "denoiser_int8.onnx.data"]


def test_weights_that_another_program_fetched_are_hashed(hub, hashed):
    for path in hub.repository.rglob("*.*"):
        hub.fetch(path.relative_to(hub.repository).as_posix())
    load_bundle("owner/name")
    assert hashed == ["denoiser.onnx.data"]


def test_weights_are_hashed_again_after_an_interrupt(hub, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(integrity, "sha256", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_bundle("owner/name")
    damage(hub.blob(WEIGHTS))
    with pytest.raises(BundleError, match=r"denoiser\.onnx\.data was changed"):
        load_bundle("owner/name")


def test_weights_that_changed_are_hashed_again(hub):
    load_bundle("owner/name")
    damage(hub.blob(WEIGHTS))
    with pytest.raises(BundleError, match=r"denoiser\.onnx\.data was changed"):
        load_bundle("owner/name")


def test_without_a_writable_cache_weights_are_hashed_every_time(hub, hashed, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DIFFUTRON_CACHE", str(tmp_path / "file"))
    load_bundle("owner/name")
    load_bundle("owner/name")
    assert hashed == ["denoiser.onnx.data"] * 2


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_the_next_call_downloads_a_damaged_file_again(hub, name):
    for path in hub.repository.rglob("*.*"):
        hub.fetch(path.relative_to(hub.repository).as_posix())
    damage(hub.blob(name))
    with pytest.raises(BundleError, match="was changed"):
        load_bundle("owner/name")
    assert load_bundle("owner/name").context_length == 256


def test_a_link_out_of_the_repository_is_not_followed(hub, tmp_path):
    load_bundle("owner/name")
    link = hub.snapshot / "config.json"
    link.resolve().rename(tmp_path / "secret")
    link.unlink()
    link.symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="out of the bundle"):
        load_bundle("owner/name")
    assert (tmp_path / "secret").exists()


def test_what_is_neither_a_bundle_nor_a_checkpoint_is_refused(hub):
    for name in (MANIFEST, "config.json"):
        (hub.repository / name).unlink()
    with pytest.raises(BundleFileError, match=r"owner/name on the Hub has neither diffutron\.json.*nor config\.json"):
        load_bundle("owner/name")


def test_the_manifest_alone_is_downloaded_to_show_it(hub, capsys):
    assert main(["info", "owner/name"]) == 0
    assert "100.0% of clear rows" in capsys.readouterr().out
    assert hub.fetched == ["config.json", MANIFEST]


def test_a_failed_download_raises_a_bundle_file_error(monkeypatch, tmp_path):
    def snapshot_download(*_, **__):
        raise OSError("no route\n\n to host")

    monkeypatch.chdir(tmp_path)
    install(snapshot_download, monkeypatch)
    with pytest.raises(BundleFileError, match="owner/name is not a folder here, and cannot be downloaded: no route to"):
        load_bundle("owner/name")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BundleFileError, match=r"pip install 'diffutron-ort\[hub\]'"):
        load_bundle("owner/name")
