"""What SECURITY.md promises of checkpoints: none of their code runs, none of their pickles is opened."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import CheckpointError
from diffutron_ort_export import export
from tests.export.conftest import TINY


class Bomb:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.path, "opened")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A checkpoint with code and pickles of its own, each of which would leave a file called `ran`."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(TINY / "checkpoint", checkpoint)
    ran = tmp_path / "ran"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        (checkpoint / name).write_bytes(pickle.dumps(Bomb(ran)))
    code = f"from pathlib import Path\nPath({str(ran)!r}).write_text('ran')\nclass Model: pass\n"
    for name in ("modeling.py", "tokenization.py", "configuration.py", "custom_generate.py", "__init__.py"):
        (checkpoint / name).write_text(code)
    for name, key in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        content = json.loads((checkpoint / name).read_text("utf-8"))
        classes = {key: "modeling.Model", "AutoModelForMaskedLM": "modeling.Model"}
        content |= {"auto_map": classes, "custom_pipelines": {"fill-mask": {"impl": "modeling.Model"}}}
        (checkpoint / name).write_text(json.dumps(content))
    return checkpoint


def test_no_code_of_a_checkpoint_runs_and_none_comes_along(hostile: Path, tmp_path: Path) -> None:
    export(hostile, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    Diffutron.from_pretrained(bundle.folder).generate("Merhaba", max_new_tokens=4, steps=2)
    assert not (tmp_path / "ran").exists()
    assert {Path(name).suffix for name in bundle.files} == {".json", ".onnx", ".data"}
    settings = {name: json.loads((bundle.folder / name).read_text("utf-8")) for name in bundle.files if ".json" in name}
    assert [name for name, content in settings.items() if {"auto_map", "custom_pipelines"} & content.keys()] == []


def test_a_pickle_is_not_opened_though_there_is_nothing_else(hostile: Path, tmp_path: Path) -> None:
    (hostile / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="pickles and never opened"):
        export(hostile, tmp_path / "bundle")
    assert not (tmp_path / "ran").exists()


def test_the_pickles_would_have_been_seen(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").read_text() == "opened"
