"""`python models/nano/bundle.py`: export the checkpoint into this folder, the bundle that the package embeds."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from diffutron_ort_export import export

HERE = Path(__file__).parent


def main() -> None:
    """Export to a scratch folder under the model's name, then copy the bundle into place."""
    with tempfile.TemporaryDirectory() as scratch:
        named = shutil.copytree(HERE / "checkpoint", Path(scratch) / "nano")
        export(named, Path(scratch) / "bundle", variants=("fp32", "int8"))
        shutil.rmtree(HERE / "onnx", ignore_errors=True)
        shutil.copytree(Path(scratch) / "bundle", HERE, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
