"""Locate bundles, and refuse everything else with a message that says what it is."""

import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import BundleError, BundleFileError, OptionError


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path):
    with pytest.raises(BundleFileError, match=r"diffutron\.json is missing: a bundle is a folder that"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "./no/where", "/no/where", "", "../x", "a" * 5000, "a\0b"])
def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_refused(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        load_bundle(name)


def test_a_folder_has_no_revisions(broken):
    with pytest.raises(OptionError, match="revision='main'"):
        load_bundle(broken, "main")


@pytest.mark.parametrize("model", [5, b"models/nano", ["models/nano"]])
def test_a_model_must_be_a_string_or_a_path(model):
    with pytest.raises(OptionError, match="must be a folder or a hub id"):
        load_bundle(model)


def test_the_embedded_model_has_no_revisions():
    with pytest.raises(OptionError, match="revision='main'"):
        load_bundle(None, "main")


def test_a_relative_path_is_made_absolute(broken, monkeypatch, tmp_path):
    monkeypatch.chdir(broken.parent)
    bundle = load_bundle(broken.name)
    monkeypatch.chdir(tmp_path.parent)
    assert bundle.folder == broken
