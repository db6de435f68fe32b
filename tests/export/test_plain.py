"""The plain graph, as optimum and transformers.js open it; and what a bundle without optimum says of it.

Most of it needs the extra [optimum], in an environment of its own; transformers.js needs `npm ci --ignore-scripts` in
examples/plain.
"""

import dataclasses
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bundle.integrity import sha256
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.checks.verify import verify as checks
from diffutron_ort.errors import BundleError, DiffutronError, FidelityError, OptionError
from diffutron_ort_export import export, plain
from diffutron_ort_export.check import verify
from diffutron_ort_export.check.fidelity import Fp32Baseline, pass_over
from diffutron_ort_export.check.reference import Reference
from diffutron_ort_export.checkpoint.source import open_source
from diffutron_ort_export.variants import Job
from tests.export.conftest import TINY, edit_tensors

NANO = Path(__file__).parents[2] / "models" / "nano"
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "plain" / "fill-mask.js"
HOSTS = ROOT / "docs" / "hosts.md"
CODE = re.compile("```python\n(.*?)```", re.DOTALL)

CHECKPOINTS = {"nano": NANO / "checkpoint", "tiny": TINY / "checkpoint"}
"""Nano is exported with its weights inside the graph, the tiny one with them beside, as beyond 2 GB."""

TEXTS = (
    "Türkiye'nin başkenti <mask> şehridir.",
    "On iki artı beş <mask> eder.",
    "İstanbul'da ışıklar söndü, <mask> kaldı.",
    "<mask> bir varmış, bir <mask>muş.",
    "Kitap, deniz, okul, elma: " * 5 + "sözcüklerin en uzunu <mask> sözcüğüdür.",  # beyond the local layers' window
)

CLOSE = 1e-5
"""How far probabilities may be apart."""

without_optimum = pytest.mark.skipif(
    importlib.util.find_spec("optimum") is None, reason="optimum is not installed: pip install '.[cpu,optimum]'"
)
without_transformers_js = pytest.mark.skipif(
    not (SCRIPT.parent / "node_modules" / "@huggingface" / "transformers").is_dir() or shutil.which("node") is None,
    reason="transformers.js is not installed: npm ci --ignore-scripts in examples/plain",
)


@pytest.fixture(scope="module", params=CHECKPOINTS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / request.param
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FORCE_ONNX_EXTERNAL_DATA", "1" if request.param == "tiny" else "0")  # optimum's own
        export(CHECKPOINTS[request.param], out, variants=("fp32", "plain"))
    return out


@pytest.fixture(scope="module")
def model(bundle: Path) -> Diffutron:
    return Diffutron.from_pretrained(bundle)


def manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text("utf-8"))


def ids_of(model: Diffutron, text: str) -> list[int]:
    """As pipelines have them: between <bos> and <eos>."""
    special = model.bundle.special
    return [special.bos, *model.tokenizer.encode_masked(text)[0], special.eos]


def probabilities(model: Diffutron, text: str) -> np.ndarray:
    """Our own, of each mask of a text; [masks, vocab]."""
    ids = np.array(ids_of(model, text))
    batch = pass_over(ids, np.flatnonzero(ids == model.bundle.special.mask))
    return np.exp(verify.log_softmax(model.forward(batch).logits))


def check_candidates(ours: np.ndarray, ids: Sequence[int], scores: Sequence[float]) -> None:
    """The ids are the best ones of `ours` [vocab], best first but for those as good, and have their probabilities."""
    assert len(set(ids)) == len(ids) == 5
    np.testing.assert_allclose(scores, ours[ids], rtol=0, atol=CLOSE)
    np.testing.assert_allclose(scores, np.sort(ours)[::-1][: len(ids)], rtol=0, atol=CLOSE)


@without_optimum
def test_optimum_opens_the_bundle(bundle: Path, model: Diffutron) -> None:
    from optimum.onnxruntime import ORTModelForMaskedLM
    from transformers import AutoTokenizer, pipeline

    opened, tokenizer = ORTModelForMaskedLM.from_pretrained(bundle), AutoTokenizer.from_pretrained(bundle)
    fill = pipeline("fill-mask", model=opened, tokenizer=tokenizer)
    for text in TEXTS:
        assert tokenizer(text).input_ids == ids_of(model, text)
        found = fill(text) if text.count("<mask>") > 1 else [fill(text)]
        for ours, candidates in zip(probabilities(model, text), found, strict=True):
            check_candidates(ours, [c["token"] for c in candidates], [c["score"] for c in candidates])


@without_optimum
def test_the_code_for_optimum_in_the_documents(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if bundle.name != "nano":
        pytest.skip("it is about nano")
    [code] = [code for code in CODE.findall(HOSTS.read_text("utf-8")) if "optimum" in code]
    monkeypatch.chdir(bundle.parent)
    exec(code, {})
    assert capsys.readouterr().out.startswith("0.955 Ank\n0.010ara\n")


@without_optimum
@without_transformers_js
def test_transformers_js_opens_the_bundle(bundle: Path, model: Diffutron) -> None:
    """All texts are one padded batch; it fills the first mask of each."""
    run = subprocess.run(["node", SCRIPT, bundle, *TEXTS], capture_output=True, text=True, check=True, encoding="utf-8")
    assert run.stderr == ""
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(lines) == len(TEXTS)
    for text, candidates in zip(TEXTS, lines, strict=True):
        ours = probabilities(model, text)[0]
        check_candidates(ours, [c["token"] for c in candidates], [c["score"] for c in candidates])
        assert candidates[0]["text"] == model.tokenizer.decode([candidates[0]["token"]])


@without_optimum
@without_transformers_js
def test_transformers_js_knows_which_files_a_page_needs(bundle: Path) -> None:
    """On WASM it takes 8-bit weights unless config.json says otherwise, and no file of weights unless that says so."""
    program = (
        "import { ModelRegistry, env } from '@huggingface/transformers'; env.allowRemoteModels = false;"
        "console.log(JSON.stringify(await ModelRegistry.get_model_files(process.argv[1], { device: 'wasm' })))"
    )
    command = ["node", "--input-type=module", "-e", program, bundle]
    run = subprocess.run(command, cwd=SCRIPT.parent, capture_output=True, text=True, check=True)
    onnx_files = {name for name in json.loads(run.stdout) if name.startswith("onnx/")}
    said = manifest(bundle)["plain"]
    assert onnx_files == {said["graph"], said["weights"]}


@without_optimum
def test_manifest(bundle: Path) -> None:
    found = manifest(bundle)
    said = found["plain"]
    weights = "onnx/model.onnx_data" if bundle.name == "tiny" else "onnx/model.onnx"
    assert (said["graph"], said["weights"]) == ("onnx/model.onnx", weights)
    assert {said["graph"], weights} <= found["files"].keys()
    assert found["variants"].keys() == {"fp32"}
    assert said["fidelity"]["cases"].keys() == {"long", "padded"}
    assert said["fidelity"]["max_abs_over_std"] < 1e-4
    assert said["fidelity"]["top1_agreement"] == 1


@without_optimum
def test_graph(bundle: Path) -> None:
    path = bundle / "onnx" / "model.onnx"
    onnx.checker.check_model(path)
    graph = onnx.load(path)
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    vocab = manifest(bundle)["vocab_size"]
    sequence = ["batch_size", "sequence_length"]
    assert axes == {"input_ids": sequence, "attention_mask": sequence, "logits": [*sequence, vocab]}
    assert sum(vocab in tensor.dims and len(tensor.dims) == 2 for tensor in graph.graph.initializer) == 1  # one table
    assert {p.key for p in graph.metadata_props} >= {"source", "transformers", "optimum", "optimum-onnx"}
    assert str(Path(sys.prefix)).encode() not in path.read_bytes()


@without_optimum
def test_another_graph_than_the_checkpoint_is_refused(bundle: Path, tmp_path: Path) -> None:
    altered = Path(shutil.copytree(CHECKPOINTS[bundle.name], tmp_path / "checkpoint"))
    edit_tensors(altered / "model.safetensors", enlarge)
    source, session = open_source(str(altered)), session_of(bundle)
    trial = verify.long_trial(session, verify.random_tokens(np.random.default_rng(0), session.shape, 20))
    with pytest.raises(FidelityError, match="variant plain: a logit differs from the reference's by"):
        verify.exact_card(verify.compared(Reference(source.weights, source.shape), [trial], None), "plain")


def enlarge(tensors: dict[str, np.ndarray]) -> None:
    name = "model.layers.1.attn.Wo.weight"
    tensors[name] = (tensors[name].astype(np.float32) * 1.01).astype(tensors[name].dtype)


def session_of(bundle: Path) -> plain.FullLogitsSession:
    source = open_source(str(CHECKPOINTS[bundle.name]))
    return plain.FullLogitsSession(bundle / "onnx" / "model.onnx", source.shape)


@without_optimum
def test_an_output_vocabulary_leaves_it_as_it_is(tmp_path: Path) -> None:
    source = open_source(str(TINY / "checkpoint"))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(dict(source.config)))
    job = Job(
        "plain",
        tmp_path / "onnx" / "model.onnx",
        {},
        Fp32Baseline(dataclasses.replace(source, output_vocabulary=(0, 1, 2, 3, 4, 9))),
    )
    assert plain.write_plain(job)["top1_agreement"] == 1
    graph = plain.FullLogitsSession(job.path, source.shape)
    found = graph.run(np.array([[4]]), np.array([[0]]), np.array([0]), fetch=["logits"])
    assert found["logits"].shape == (1, source.shape.vocab_size)


def test_the_checkpoint_for_optimum_is_the_source(tmp_path: Path) -> None:
    """It reads back as the same float32 tensors, an adapter's and none of the padding's among them."""
    source = open_source(str(TINY / "checkpoint"), adapter=str(TINY / "adapter"))
    plain.save_checkpoint(source, tmp_path)
    for name, content in source.tokenizer.files.items():
        (tmp_path / name).write_bytes(content)
    again = open_source(str(tmp_path))
    assert (again.shape, again.config) == (source.shape, source.config)
    assert again.weights.shapes == source.weights.shapes
    for name in source.weights.shapes:
        np.testing.assert_array_equal(again.weights.rows(name), source.weights.rows(name))


@pytest.mark.skipif(importlib.util.find_spec("optimum") is not None, reason="optimum is installed")
def test_without_optimum_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DiffutronError, match=r"needs optimum's exporter .* 'diffutron-ort\[cpu,optimum\]'"):
        export(TINY / "checkpoint", tmp_path / "out", variants=("fp32", "plain"))
    assert list(tmp_path.iterdir()) == []


def test_alone_it_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="variant plain alone: nothing here generates from it; choose fp32, int8"):
        export(TINY / "checkpoint", tmp_path / "out", variants=("plain",))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def third_party(broken: Path) -> Path:
    """A bundle whose manifest lists a plain graph, of which nothing here reads a byte."""
    path = broken / "onnx" / "model.onnx"
    path.write_bytes(b"of others")
    said = manifest(broken)
    said["files"]["onnx/model.onnx"] = {"size": path.stat().st_size, "sha256": sha256(path)}
    said["plain"] = {"graph": "onnx/model.onnx", "weights": "onnx/model.onnx", "fidelity": {}}
    (broken / MANIFEST).write_text(json.dumps(said))
    return broken


def test_it_is_not_run_here(third_party: Path) -> None:
    model = Diffutron.from_pretrained(third_party)
    assert model.generate("On iki artı beş kaç eder?") == "on yedi"
    assert model.bundle.plain.graph == "onnx/model.onnx"
    with pytest.raises(OptionError, match="variant='plain' is for optimum .* to generate here, use fp32"):
        Diffutron.from_pretrained(third_party, variant="plain")


def test_a_part_of_it_is_named_by_verify_and_needed_by_nothing_here(third_party: Path) -> None:
    (third_party / "onnx" / "model.onnx").write_bytes(b"of other")
    with pytest.raises(BundleError, match=r"model\.onnx has 8 bytes, not 9"):
        next(checks(third_party))
    (third_party / "onnx" / "model.onnx").unlink()
    assert next(checks(third_party)).name == "files"
    assert Diffutron.from_pretrained(third_party).generate("On iki artı beş kaç eder?") == "on yedi"
