import platform
import threading
import tomllib
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleError, OptionError, ProviderError
from diffutron_ort.runtime import contract, contract_checks, opening
from diffutron_ort.runtime import session as module
from diffutron_ort.runtime.generation import Generation
from diffutron_ort.runtime.session import Session
from diffutron_ort.sampler.canvas import for_generation
from diffutron_ort.sampler.engine import denoise
from diffutron_ort.sampler.sampling import penalise, reduce_logits
from tests.fakes import invariant
from tests.passes import pass_input


def batch(*rows, penalty=1.0, temperature=1.0, seen=(9,), **more):
    """Return a pass that predicts every second token of right-padded `rows`, and returns their logits."""
    longest = max(map(len, rows))
    ids = np.array([[*row, *[0] * (longest - len(row))] for row in rows])
    positions = np.array([[*range(len(row)), *[-1] * (longest - len(row))] for row in rows])
    size = len(rows)
    return pass_input(
        ids,
        positions,
        np.flatnonzero(positions >= 0)[::2],
        seen_ids=np.tile(np.array(seen, np.int64), (size, 1)),
        repetition_penalty=np.full(size, penalty, np.float32),
        temperature=np.full(size, temperature, np.float32),
        **({"want_logits": True, "want_entropy": True} | more),
    )


@pytest.fixture(scope="module")
def forward():
    return Session(load_bundle(), threads=1)


@pytest.mark.parametrize("seen", [(), (25, 30, 31, 31)])
@pytest.mark.parametrize("suppressed", [(), (30, 9, 9)])
def test_the_graphs_reductions_are_numpys(forward, seen, suppressed):
    asked = batch(range(20, 60), penalty=1.3, temperature=0.5, seen=seen, suppress_ids=np.array([suppressed], np.int64))
    found = forward(asked)
    assert found.logits.shape == (20, load_bundle().vocab_size)
    adjusted = penalise(found.logits, np.unique(asked.seen_ids), 1.3)
    adjusted[:, list(suppressed)] = -1e30
    expected = reduce_logits(adjusted, 0.5)
    np.testing.assert_array_equal(found.top_ids, expected.top_ids)
    np.testing.assert_allclose(found.top_logits, expected.top_logits, rtol=1e-6)
    for name in ("rest", "rest_tempered", "entropy"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-4, err_msg=name)


def test_logits_are_fetched_only_when_they_are_wanted(forward):
    assert forward(batch(range(20, 30), want_logits=False)).logits is None


def test_targets_are_raw(forward):
    targets = np.arange(15).reshape(5, 3)
    found = forward(batch(range(20, 30), penalty=1.3, seen=range(8), target_ids=targets))
    np.testing.assert_allclose(found.target_logits, np.take_along_axis(found.logits, targets, axis=1), atol=1e-5)


def test_arrays_need_not_be_contiguous(forward):
    asked = batch(range(20, 30))
    found, wide = forward(asked), {n: np.repeat(getattr(asked, n), 2, axis=-1)[..., ::2] for n in ("input_ids", "rows")}
    np.testing.assert_array_equal(forward(replace(asked, **wide)).top_logits, found.top_logits)


def most_bytes(forward, **options):
    """Return the most that a step of an answer of one block allocates in numpy, and the most that a pass hands over.

    What a pass hands over lies in ONNX Runtime's memory, which `tracemalloc` does not see.
    """
    bundle, peaks, handed = load_bundle(), [], []
    config = GenerationConfig(steps=32, max_new_tokens=32, early_end=False, **options)
    canvas = for_generation(range(20, 40), 32, bundle.special.mask)

    @invariant
    def noting(batch):
        said = forward(batch)
        handed.append(sum(value.nbytes for value in vars(said).values() if isinstance(value, np.ndarray)))
        return said

    steps = denoise(noting, [canvas], config, bundle.special)
    next(steps)  # what is made once
    tracemalloc.start()
    try:
        for _ in range(31):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            next(steps)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return max(peaks), max(handed)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"cache": "block"}, {"suppress_tokens": (9,)}])
def test_a_step_allocates_nothing_as_wide_as_the_vocabulary(forward, options):
    wide = 31 * 4 * load_bundle().vocab_size  # the logits of the second step's rows
    assert max(most_bytes(forward, **options)) < wide / 2
    assert min(most_bytes(forward, cfg_scale=0.5, **options)) > wide  # which needs all logits: it is seen


def test_padding_is_invisible(forward):
    short, long = range(20, 30), range(40, 90)
    alone, together = forward(batch(short)).logits, forward(batch(short, long)).logits
    np.testing.assert_allclose(together[: len(alone)], alone, atol=1e-4)


def test_one_session_serves_many_threads(forward):
    results = [None] * 4
    expected = forward(batch(range(20, 60))).logits

    def work(i):
        results[i] = forward(batch(range(20, 60))).logits

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("providers", ["cuda", ["cuda", "cpu"], ["CUDAExecutionProvider"], ["NoSuchProvider"]])
def test_a_provider_that_is_asked_for_and_not_there_is_an_error(providers):
    with pytest.raises(ProviderError, match=r"provider '\w+' is not available: ONNX Runtime has .*CPUExec"):
        Session(load_bundle(), providers=providers)


def test_a_provider_that_is_there_but_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda path, options, **_: real(path, options))
    with pytest.raises(ProviderError, match="'CUDAExecutionProvider' is not available"):
        Session(load_bundle(), providers=["cuda"])


@pytest.mark.parametrize("providers", [5, [[]], [None], {"cpu": 1}])
def test_what_names_no_provider_is_refused(providers):
    with pytest.raises(OptionError, match="providers="):
        Session(load_bundle(), providers=providers)


def test_threads_reach_onnxruntime(forward):
    assert forward._session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize(("spin", "entry"), [({}, None), ({"spin": True}, None), ({"spin": False}, "0")])
def test_threads_spin_unless_told_otherwise(spin, entry):
    options = Session(load_bundle(), threads=1, **spin)._session.get_session_options()
    name = "session.intra_op.allow_spinning"
    if entry is None:
        with pytest.raises(RuntimeError, match=name):  # it has no such entry
            options.get_session_config_entry(name)
    else:
        assert options.get_session_config_entry(name) == entry


def test_spin_reaches_the_session():
    for spin in (True, False):
        assert Diffutron.from_pretrained(threads=1, spin=spin).forward.spin is spin


@pytest.mark.parametrize("spin", [1, 0, None, "no"])
def test_spin_is_yes_or_no(spin):
    with pytest.raises(OptionError, match="spin="):
        Session(load_bundle(), spin=spin)


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "expected"),
    [
        ("x86_64", "flags : sse2 avx2 avx512_vnni", False),
        ("x86_64", "flags : avx2 avx_vnni fma", False),
        ("x86_64", "flags : avx2 avx512bw", True),
        ("AMD64", None, True),
        ("aarch64", "Features : fp asimd", False),
        ("arm64", None, False),
    ],
)
def test_byte_products_can_saturate_on_x86_without_vnni(machine, cpuinfo, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert opening._may_saturate(tmp_path / "cpuinfo") is expected


@pytest.mark.parametrize("may", [True, False])
def test_bytes_are_multiplied_slowly_only_where_they_could_saturate(may, monkeypatch):
    monkeypatch.setattr(opening, "_may_saturate", lambda: may)
    options, name = Session(load_bundle(), threads=1)._session.get_session_options(), "session.x64quantprecision"
    if may:
        assert options.get_session_config_entry(name) == "1"
    else:
        with pytest.raises(RuntimeError, match=name):  # it has no such entry
            options.get_session_config_entry(name)


def test_no_memory_is_planned_for_shapes_that_do_not_come_again(forward):
    assert not forward._session.get_session_options().enable_mem_pattern


def test_what_onnxruntime_fails_at_is_an_error_of_ours(forward):
    with pytest.raises(ProviderError, match=r"failed to run .*denoiser\.onnx"):
        forward(batch([10**9]))


def test_what_onnxruntime_fails_at_is_not_told_by_itself_which_would_steer_a_terminal(forward, capfd):
    with pytest.raises(ProviderError):
        forward(batch([10**9]))
    assert capfd.readouterr().err == ""


def test_without_a_wish_it_runs_on_what_is_there(forward):
    assert forward.providers == ["CPUExecutionProvider"]


def test_garbage_that_the_manifest_vouches_for_is_an_error_of_ours(broken):
    (broken / "onnx" / "denoiser.onnx").write_bytes(b"garbage")
    bundle = Bundle(**(vars(load_bundle()) | {"folder": broken}))
    with pytest.raises(BundleError, match=r"denoiser\.onnx is not a denoiser as this package exports it"):
        Session(bundle)


def test_a_graph_with_another_signature_is_an_error_of_ours(monkeypatch):
    extra = contract.Value("guidance", "float32", ("n",), "")
    monkeypatch.setattr(module, "DENOISER_INPUTS", (*contract.DENOISER_INPUTS, extra))
    with pytest.raises(BundleError, match="is not a denoiser: its inputs differ in .*guidance"):
        Session(load_bundle())


@pytest.mark.parametrize(
    ("version", "least", "needed"),
    [
        ("1.24.2", "1.23.2", None),
        ("1.24.2", "1.24.2", None),
        ("1.24.10+cu12", "1.24.9", None),
        ("1.24.1", "1.23.2", "1.24.2"),  # what the bundle says, and what keeps its graphs from reading files
        ("1.23.2", "1.23.2", "1.24.2"),
        ("1.24.2", "1.25.0", "1.25.0"),
        ("1.9.0", "1", "1.24.2"),
    ],
)
def test_onnxruntime_has_to_be_as_new_as_the_bundle_and_the_package_want(version, least, needed, monkeypatch):
    monkeypatch.setattr(ort, "__version__", version)
    importing = opening.import_onnxruntime.__wrapped__
    if needed is None:
        assert importing(least) is ort
    else:
        with pytest.raises(ProviderError, match=rf"{version} is too old: pip install 'onnxruntime>={needed}'"):
            importing(least)


def test_what_is_needed_is_what_is_installed():
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for extra, package in (("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu[cuda,cudnn]")):
        assert extras[extra] == [f"{package}>={opening.LEAST_ONNXRUNTIME}"]


class Graph:
    """What stands for a session: its inputs and outputs."""

    def __init__(self, **changes):
        self.changes = changes

    def _values(self, table):
        sizes = {0: [], 1: ["n"], 2: ["a", 2023], 3: ["b", "c", 256]}
        rows = contract.for_layers(table, 6)
        values = {row.name: (row.onnx_type, sizes[len(row.axes)]) for row in rows} | self.changes
        names = {row.name for row in rows}
        return [SimpleNamespace(name=n, type=v[0], shape=v[1]) for n, v in values.items() if n in names and v]

    def get_inputs(self):
        return self._values(contract.DENOISER_INPUTS)

    def get_outputs(self):
        return self._values(contract.DENOISER_OUTPUTS)


def check(**changes):
    graph = Graph(**changes)
    tables = (contract.for_layers(table, 6) for table in (contract.DENOISER_INPUTS, contract.DENOISER_OUTPUTS))
    contract_checks.check_signature(graph, "denoiser", *tables, Path("g.onnx"))
    contract_checks.check_sizes(graph, Path("g.onnx"), load_bundle())


def test_a_graphs_signature_and_sizes_are_the_contracts():
    check()


@pytest.mark.parametrize(
    "name", ["past_key.0", "past_value.3", "key.5", "value.0", "logits", "rest", "input_ids", "want_logits"]
)
@pytest.mark.parametrize(
    "value",
    [
        None,
        ("tensor(string)", ["b", "c", 256]),
        ("seq(tensor(float))", None),
        ("tensor(float)", ["n"] * 6),
        ("tensor(float)", ["x" * 10**5] * 7),
        ("tensor(int64)", ["b", "c", 256]),
    ],
)
def test_odd_signatures_are_errors_of_ours(name, value):
    with pytest.raises(BundleError, match="is not a denoiser: its (inputs|outputs) differ in") as caught:
        check(**{name: value})
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("name", ["past_key.0", "past_value.5", "key.3", "value.0"])
@pytest.mark.parametrize("shape", [["b", "c", 255], ["b", "c", None], ["b", "c", "x" * 10**5], [1, 1, -1]])
def test_sizes_that_are_not_the_manifests_are_errors_of_ours(name, shape):
    with pytest.raises(BundleError, match=rf"hidden in {name}, but its manifest says 256;") as caught:
        check(**{name: ("tensor(float)", shape)})
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("layers", [5, 7])
def test_another_number_of_layers_than_the_manifests_is_an_error_of_ours(layers):
    with pytest.raises(BundleError, match=rf"has 6 layers in past_key, but its manifest says {layers};"):
        contract_checks.check_layers(Graph(), Path("g.onnx"), replace(load_bundle(), layers=layers))


def test_what_onnxruntime_says_of_a_graph_that_it_refuses_is_shortened(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("x" * 10**6)

    monkeypatch.setattr(ort, "InferenceSession", refuse)
    with pytest.raises(BundleError, match="cannot open") as caught:
        Session(load_bundle())
    assert len(str(caught.value)) < 1000


def test_too_little_memory_to_open_a_graph_is_an_error_of_ours(monkeypatch):
    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ort, "InferenceSession", refuse)
    with pytest.raises(ProviderError, match="not enough memory to open"):
        Session(load_bundle())


def test_a_file_is_opened_as_onnx_and_nothing_else(forward):
    options = forward._session.get_session_options()
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"


def test_a_bundle_that_was_found_by_a_relative_path_is_found_from_elsewhere(broken, monkeypatch):
    monkeypatch.chdir(broken.parent)
    bundle = replace(load_bundle(), folder=Path(broken.name))
    session, generation = Session(bundle, threads=1), Generation(bundle, threads=1)
    monkeypatch.chdir("/")
    assert session._open()
    assert generation._open()


def test_an_onnxruntime_that_is_too_old_is_named():
    with pytest.raises(ProviderError, match=r"is too old: pip install 'onnxruntime>=999\.0'"):
        opening.import_onnxruntime("999.0")


def test_two_onnxruntimes_that_overwrite_each_other_are_named(monkeypatch):
    both = ("onnxruntime", "onnxruntime-gpu")
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: iter([name] if name in both else []))
    with pytest.raises(ProviderError, match="onnxruntime and onnxruntime-gpu are both installed"):
        Session(load_bundle(), providers=["cuda"])
