"""What several files of tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from diffutron_ort import Diffutron
from diffutron_ort.bundle.load import load_bundle

# A busy machine is slow now and then, which is no failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

GOLDEN = Path(__file__).parent / "golden"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs torch, Ray or Triton's client where they are missing; CI has a stage for each."""
    if item.get_closest_marker("torch"):
        pytest.importorskip("torch")
        pytest.importorskip("transformers")
    if item.get_closest_marker("ray"):
        pytest.importorskip("ray.serve")
    if item.get_closest_marker("eval"):
        pytest.importorskip("lm_eval")
    if item.get_closest_marker("triton"):
        pytest.importorskip("tritonclient.grpc")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests put into the cache out of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUTRON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle exported once from the tiny checkpoint."""
    from diffutron_ort_export import export

    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export(GOLDEN / "tiny" / "checkpoint", out)
    return out


@pytest.fixture(scope="session")
def model() -> Diffutron:
    """The embedded model."""
    return Diffutron.from_pretrained()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the embedded bundle that a test may damage."""
    bundle, copy = load_bundle(), tmp_path / "bundle"
    for name in ("diffutron.json", *bundle.files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.folder / name, copy / name)
    return copy
