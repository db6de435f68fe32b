"""Providers as rows: which are taken, which a variant refuses, and what is said about those that are missing."""

import sys
from dataclasses import replace

import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import OptionError, ProviderError
from diffutron_ort.runtime import providers as module
from diffutron_ort.runtime.opening import import_onnxruntime
from diffutron_ort.runtime.providers import PROVIDERS, Provider, automatic_providers, check_variant, named_providers

CPU, CUDA, OTHER = "CPUExecutionProvider", "CUDAExecutionProvider", "OtherExecutionProvider"


@pytest.fixture(scope="module")
def bundle():
    return load_bundle()


@pytest.fixture
def installed(monkeypatch):
    """Return a function that sets which packages of ONNX Runtime are installed."""

    def packages(*names):
        monkeypatch.setattr("importlib.metadata.distributions", lambda name: iter([name] if name in names else []))

    return packages


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=PROVIDERS)
def test_a_row_is_found_by_both_of_its_names(row):
    assert named_providers([row.name, row.full_name]) == [row, row]
    assert named_providers(row.name) == [row]


def test_a_provider_without_a_row_runs_as_the_cpu_does():
    [found] = named_providers([OTHER])
    assert (found.name, found.full_name) == (OTHER, OTHER)
    assert (found.device, found.in_buckets, found.is_automatic) == ("cpu", False, False)


@pytest.mark.parametrize(
    ("variant", "available", "expected"),
    [
        ("fp32", [CUDA, CPU], ["cuda", "cpu"]),
        ("fp32", [CPU, CUDA], ["cuda", "cpu"]),
        ("fp32", [OTHER, CPU], ["cpu"]),
        ("int8", [CUDA, CPU], ["cpu"]),
    ],
)
def test_the_best_available_provider_that_runs_the_variant_is_taken(bundle, variant, available, expected):
    assert [provider.name for provider in automatic_providers(bundle, variant, available)] == expected


@pytest.mark.parametrize(
    ("variant", "asked"), [("fp32", ["cuda", "cpu", OTHER]), ("fp32", []), ("int8", ["cpu"]), ("int8", [OTHER])]
)
def test_a_variant_runs_on_what_its_manifest_does_not_rule_out(bundle, variant, asked):
    check_variant(bundle, variant, named_providers(asked))


@pytest.mark.parametrize("asked", [["cuda"], [CUDA], ["cuda", "cpu"], ["cpu", "cuda"]])
def test_a_variant_is_refused_elsewhere_and_the_others_are_named(bundle, asked):
    with pytest.raises(OptionError, match="^variant 'int8' runs on cpu only, not on cuda: use variant fp32, or leave"):
        check_variant(bundle, "int8", named_providers(asked))


def test_without_another_variant_none_is_named(bundle):
    only = replace(bundle, variants={"int8": bundle.variants["int8"]})
    with pytest.raises(OptionError, match="not on cuda: leave the provider out$"):
        check_variant(only, "int8", [PROVIDERS["cuda"]])


def test_a_missing_provider_comes_with_the_package_that_has_it(installed):
    installed("onnxruntime")
    said = module.unavailable(PROVIDERS["cuda"], [CPU])
    assert (
        said
        == f"provider '{CUDA}' is not available: ONNX Runtime has {CPU} here. Try: pip uninstall onnxruntime (the two "
        "overwrite each other), then pip install 'diffutron-ort[gpu]'"
    )
    assert module.unavailable(Provider(OTHER, OTHER), [CPU]).endswith(f"ONNX Runtime has {CPU} here")
    installed("onnxruntime-gpu")
    assert module.unavailable(PROVIDERS["cuda"], [CPU]).endswith(f"ONNX Runtime has {CPU} here")
    installed("onnxruntime", "onnxruntime-gpu")
    assert "onnxruntime and onnxruntime-gpu are both installed" in module.unavailable(PROVIDERS["cuda"], [CPU])


def test_a_broken_installation_is_named(installed, monkeypatch):
    import onnxruntime as ort

    monkeypatch.delattr(ort, "InferenceSession")
    for packages, advice in (
        (("onnxruntime",), "Uninstall it"),
        (("onnxruntime", "onnxruntime-gpu"), "both installed"),
    ):
        installed(*packages)
        with pytest.raises(ProviderError, match=f"is broken. .*{advice}"):
            import_onnxruntime.__wrapped__("1")


def test_a_missing_onnxruntime_comes_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ProviderError, match=r"pip install 'diffutron-ort\[cpu\]' for cpu, or 'diffutron-ort\[gpu\]' for"
    ):
        import_onnxruntime.__wrapped__("1")
