"""What several folders of tests share."""

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle exported once from the tiny checkpoint."""
    from diffutron_ort_export import export

    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export(GOLDEN / "tiny" / "checkpoint", out)
    return out
