"""Verify passes an intact bundle, and reports damage that loading does not detect."""

import json
import re
from dataclasses import replace

import pytest

from diffutron_ort import Diffutron, GenerationConfig
from diffutron_ort.bundle.conformance import CONFORMANCE, read_pack
from diffutron_ort.bundle.integrity import sha256
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.checks.replay import answered
from diffutron_ort.checks.verify import verify
from diffutron_ort.cli.main import main
from diffutron_ort.errors import BundleError, BundleFileError
from tests.bundle.test_load import edit_manifest
from tests.fakes import MASK, invariant


def failed(folder):
    """The names of the checks that fail."""
    return [check.name for check in verify(folder) if check.differences]


def relist(folder, name):
    """Update a file's entry in the manifest."""
    path = folder / name
    now = {"size": path.stat().st_size, "sha256": sha256(path)}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: now}))


def edit_cases(folder, change):
    content = json.loads((folder / CONFORMANCE).read_text("utf-8"))
    change(content)
    (folder / CONFORMANCE).write_text(json.dumps(content), "utf-8")
    relist(folder, CONFORMANCE)


def test_the_embedded_bundle_passes_and_lists_its_checks(capsys):
    assert main(["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    names = {"files", "tokens", "chats", "uniforms", "loop, fp32", "graph, fp32", "loop, int8", "graph, int8"}
    assert names <= {check.name for check in verify() if check.total > 2}


def test_the_recorded_texts_and_uniforms_cover_what_ports_need():
    pack = read_pack(load_bundle())
    texts = "".join(case.text for case in pack.tokens)
    assert {"İ", "ı", "\n", "\t", "👋", "<mask>", "\x00"} <= {c for c in [*texts, "<mask>"] if c in texts}
    assert {case.text for case in pack.tokens} >= {""}
    assert len({case.place[0] for case in pack.uniforms}) > 3


def test_the_recorded_generations_cover_what_ports_need():
    exact = [case for case in read_pack(load_bundle()).generations if case.exact]
    assert {case.variant for case in exact} == {"fp32"}
    assert {case.config.temperature for case in exact} >= {0.0, 0.1, 1.0}
    assert {case.template for case in exact} == {True, False}
    assert any(len(step["tokens"]) > 1 for case in exact for step in case.steps)
    assert any(case.config.early_end and (case.canvas(MASK) == MASK).any() for case in exact)
    stops = [case.config.stop for case in exact]
    assert any(string[0] == " " for strings in stops for string in strings)
    assert any(len(strings) > 1 for strings in stops)


RECORDED = """
    temperature repetition_penalty seed stop remasking commit cache refresh_steps refresh_entropy penalty_exempt
    suppress_tokens schedule cfg_scale cfg_keep_tokens
"""


@pytest.mark.parametrize("name", RECORDED.split())
def test_each_option_changes_a_recorded_generation(model, name):
    """So a host that ignores the option fails."""
    cases = [case for case in read_pack(model.bundle).generations if case.exact and name in case.options]
    default = "schedule" if name == "commit" else getattr(GenerationConfig(), name)
    without = [answered(replace(case, options={**case.options, name: default}), model) for case in cases]
    assert any((a.steps, a.text) != (b.steps, b.text) for a, b in zip(cases, without, strict=True))


def test_a_recorded_generation_draws_beyond_the_candidates_and_one_commits_a_mask(model):
    hot = [case for case in read_pack(model.bundle).generations if case.config.temperature > 1]
    committed = [step["tokens"] for case in hot for step in case.steps]
    assert any(MASK in tokens for tokens in committed)
    wanted = []

    def watched(given):
        wanted.append(given.want_logits)
        return model.forward(given)

    answered(hot[0], Diffutron(model.bundle, model.tokenizer, invariant(watched)))
    assert any(wanted)


DAMAGES = {
    "tokens": lambda content: content["tokens"][3]["ids"].reverse(),
    "chats": lambda content: content["chats"][0].update(prompt="x"),
    "uniforms": lambda content: content["uniforms"][1]["hashes"].__setitem__(0, 1),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_different_result_fails_its_check_only(broken, name):
    edit_cases(broken, DAMAGES[name])
    assert failed(broken) == [name]


def test_a_different_decoded_text_fails(broken):
    edit_cases(broken, lambda content: content["tokens"][3].update(decoded="başka"))
    assert failed(broken) == ["tokens"]


def of(variant, content):
    return [case for case in content["generations"] if case["variant"] == variant]


@pytest.mark.parametrize("part", ["tokens", "positions"])
def test_a_different_step_fails_in_the_loop_and_in_the_graph(broken, part):
    """The changed token is the answer's first, which both compare."""

    def change(content):
        first = of("fp32", content)[0]
        start = len(first["prompt_ids"])
        step = next(step for step in first["steps"] if start in step["positions"])
        step["tokens"][step["positions"].index(start)] = 99

    def swap(content):
        steps = of("fp32", content)[0]["steps"]
        steps[0], steps[1] = steps[1], steps[0]

    edit_cases(broken, change if part == "tokens" else swap)
    assert failed(broken) == (["loop, fp32", "graph, fp32"] if part == "tokens" else ["loop, fp32"])


def test_a_different_text_or_number_of_steps_fails(broken):
    edit_cases(broken, lambda content: of("fp32", content)[0].update(text="başka"))
    assert failed(broken) == ["loop, fp32", "graph, fp32"]
    edit_cases(broken, lambda content: of("fp32", content)[0].update(text="", steps=[]))
    assert failed(broken) == ["loop, fp32", "graph, fp32"]


def test_a_quantized_variant_is_judged_by_its_share_of_equal_tokens(broken):
    def one(content):
        case = of("int8", content)[0]
        case["steps"][-1]["tokens"][0] += 1

    def many(content):
        for case in of("int8", content)[::2]:
            for step in case["steps"]:
                step["tokens"] = [token + 1 for token in step["tokens"]]

    edit_cases(broken, one)
    shares = [check.note for check in verify(broken) if "int8" in check.name and "same" in check.note]
    assert failed(broken) == []
    assert all(not note.startswith("100.0%") for note in shares[:1])
    edit_cases(broken, many)
    assert failed(broken) == ["loop, int8", "graph, int8"]


def test_the_loop_and_the_graph_are_checked_separately(broken, model, monkeypatch):
    monkeypatch.setattr(
        "diffutron_ort.runtime.generation.Generation.__call__", lambda self, ids, config: _other(ids, config)
    )
    assert failed(broken) == ["graph, fp32", "graph, int8"]


def _other(ids, config):
    import numpy as np

    from diffutron_ort.runtime.generation import Generated

    return Generated(np.full(len(ids) + config.max_new_tokens, 1111, np.int64), config.max_new_tokens, 3)


@pytest.mark.parametrize(("variant", "figure"), [("fp32", "max_abs_over_std"), ("int8", "agreement")])
def test_a_fidelity_card_beyond_the_thresholds_fails(broken, variant, figure):
    edit_manifest(broken, lambda m: m["variants"][variant]["fidelity"].update({figure: 0.5}))
    assert failed(broken) == [f"fidelity of {variant}"]
    for odd in (float("nan"), "0.1", [], True, -1):
        edit_manifest(broken, lambda m, odd=odd: m["variants"][variant]["fidelity"].update({figure: odd}))
        with pytest.raises(BundleError, match="NaN|" + figure):
            failed(broken)


def test_changed_weights_are_found_although_loading_does_not_read_them(broken):
    path = broken / "onnx/denoiser.onnx.data"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    load_bundle(broken)
    with pytest.raises(BundleError, match=r"denoiser.onnx.data was changed"):
        failed(broken)


@pytest.mark.parametrize("content", ["", "{}", '{"generations": [{}]}', '{"generations": 1}', "[]"])
def test_a_malformed_pack_is_refused(broken, content):
    (broken / CONFORMANCE).write_text(content)
    relist(broken, CONFORMANCE)
    with pytest.raises(BundleError, match="malformed"):
        failed(broken)


@pytest.mark.parametrize("name", ["tokens", "chats", "uniforms", "generations"])
def test_a_kind_without_cases_fails(broken, name):
    edit_cases(broken, lambda content: content.update({name: []}))
    parts = ["loop, fp32", "graph, fp32", "loop, int8", "graph, int8"]
    assert failed(broken) == (parts if name == "generations" else [name])


def test_a_variant_without_cases_fails(broken):
    edit_cases(broken, lambda content: content.update(generations=of("fp32", content)))
    assert failed(broken) == ["loop, int8", "graph, int8"]


def test_a_pack_that_the_manifest_does_not_list_is_refused(broken):
    edit_manifest(broken, lambda manifest: manifest["files"].pop(CONFORMANCE))
    with pytest.raises(BundleFileError, match=r"conformance\.json is not listed in the manifest"):
        failed(broken)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["generations"][0].update(options={"steps": 0}),
        lambda c: c["generations"][0].update(options={"stepz": 1}),
        lambda c: c["generations"][0].update(options={"max_new_tokens": 10**9}),
        lambda c: c["generations"][0]["steps"][0].update(positions=[10**6]),
        lambda c: c["generations"][0]["steps"][0].update(positions=[]),
        lambda c: c["generations"][0]["steps"][0].update(tokens=["a"]),
        lambda c: c["generations"][0].update(prompt_ids=[-1]),
        lambda c: c["chats"][0].update(messages=5),
        lambda c: c["tokens"][0].update(ids=[10**6]),
        lambda c: c["uniforms"][0].update(seed=2**64),
        lambda c: c["uniforms"][0].update(hashes=[1.5]),
    ],
)
def test_a_malformed_case_is_refused_by_name(broken, change):
    edit_cases(broken, change)
    with pytest.raises(BundleError, match=r"conformance\.json"):
        failed(broken)


def test_a_missing_variant_is_reported_as_not_checked(broken):
    for path in (broken / "onnx").glob("*int8*"):
        path.unlink()
    checks = list(verify(broken))
    assert not any(check.differences for check in checks)
    assert checks[0].note == "sizes and SHA-256; int8: not checked"
    assert not any("int8" in check.name for check in checks)


def test_one_variant_can_be_checked_alone(broken):
    for name in ("denoiser.onnx", "generate.onnx"):
        (broken / "onnx" / name).unlink()
    names = [check.name for check in verify(broken, variant="int8") if not check.differences]
    assert {"files", "graphs", "loop, int8", "graph, int8"} <= set(names)
    assert not any("fp32" in name for name in names)


@pytest.mark.parametrize("name", ["denoiser", "generate"])
def test_a_graph_that_reads_another_file_is_refused(broken, name):
    path = broken / "onnx" / f"{name}.onnx"
    path.write_bytes(path.read_bytes().replace(b"denoiser.onnx.data", b"denoiser.onnx.dat\x61"[:17] + b"b"))
    relist(broken, f"onnx/{name}.onnx")
    (broken / "onnx" / "denoiser.onnx.datb").write_bytes((broken / "onnx" / "denoiser.onnx.data").read_bytes())
    with pytest.raises(BundleError, match="it reads the file 'denoiser.onnx.datb'"):
        failed(broken)


def test_a_difference_names_the_step_and_the_tokens(broken):
    def change(content):
        case = of("fp32", content)[0]
        case["steps"][1]["tokens"][0] = 99
        case["steps"].pop()

    edit_cases(broken, change)
    said = [text for check in verify(broken) for text in check.differences]
    assert any(re.search(r"step 2 commits \d+ at \d+, not 99 at \d+", text) for text in said)
    assert any(re.search(r"it takes \d+ steps, not \d+", text) for text in said)


def test_a_bundle_without_cases_is_refused_with_a_remedy(broken):
    edit_manifest(broken, lambda manifest: manifest["files"].pop(CONFORMANCE))
    (broken / CONFORMANCE).unlink()
    with pytest.raises(BundleFileError, match="export the model again"):
        failed(broken)


def test_the_command_reports_what_failed_and_exits_with_1(broken, capsys):
    edit_cases(broken, DAMAGES["chats"])
    assert main(["verify", str(broken)]) == 1
    said = capsys.readouterr()
    assert "FAILED  chats" in said.out
    assert "not 'x'" in said.err
    assert main(["verify", "--against", "jax", "x"]) == 2
    assert main(["verify", "--variant", "int3"]) == 2


def test_a_replay_ignores_the_bundles_own_options(model):
    cases = read_pack(model.bundle).generations
    case = next(case for case in cases if case.config.repetition_penalty != 1)
    assert answered(case, model) == case
