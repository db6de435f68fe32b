"""A variant of a bundle, running; the only importer of onnxruntime."""

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.buckets import cut, padded
from diffutron_ort.errors import BundleError, OptionError, ProviderError
from diffutron_ort.manifest import Bundle
from diffutron_ort.predict import Batch
from diffutron_ort.sampling import Predictions

MOST_THREADS = 1024
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}  # short names
X86 = ("x86_64", "amd64", "i386", "i686", "x86")  # as `platform.machine` has it, in lower case
VNNI = {"avx512_vnni", "avx_vnni"}  # flags of processors whose products of bytes are summed up in 32 bits
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")

# The graph's contract: ONNX Runtime's name of the type, and the number of axes.
INPUTS = {
    "input_ids": ("tensor(int64)", 2),
    "position_ids": ("tensor(int64)", 2),
    "past_position_ids": ("tensor(int64)", 2),
    "past_key": ("tensor(float)", 4),
    "past_value": ("tensor(float)", 4),
    "rows": ("tensor(int64)", 1),
    "seen_ids": ("tensor(int64)", 2),
    "repetition_penalty": ("tensor(float)", 1),
    "temperature": ("tensor(float)", 1),
}
OUTPUTS = {
    "top_ids": ("tensor(int64)", 2),
    "top_logits": ("tensor(float)", 2),
    "rest": ("tensor(float)", 1),
    "rest_tempered": ("tensor(float)", 1),
    "entropy": ("tensor(float)", 1),
    "logits": ("tensor(float)", 2),
    "key": ("tensor(float)", 4),
    "value": ("tensor(float)", 4),
}
REDUCTIONS = ("top_ids", "top_logits", "rest", "rest_tempered", "entropy")
OWN_INPUTS = tuple(name for name in INPUTS if not name.startswith("past_"))  # of the tokens that a pass computes
DEVICES = {"CUDAExecutionProvider": "cuda"}  # where a provider's values lie; all others' lie in the host's memory


class KeysValues(NamedTuple):
    """What a pass left for later ones, in ONNX Runtime's own memory: nothing here copies it to the host's.

    Attributes:
        key: OrtValue, float32 [layers, batch, seq, hidden], rotated.
        value: OrtValue, float32 [layers, batch, seq, hidden].
    """

    key: Any
    value: Any


class Session:
    """The `Forward` of a bundle's variant. May be called from several threads, and after a fork."""

    def __init__(
        self,
        bundle: Bundle,
        variant: str = "fp32",
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        spin: bool = True,
    ) -> None:
        """Open the graph.

        Args:
            bundle: Verified.
            variant: Which of its graphs.
            providers: `cpu`, `cuda`, or ONNX Runtime's own names, in order of preference; None takes CUDA where it is
                there, else the CPU.
            threads: Within an operator; None takes as many as this process may use.
            spin: Whether they wait for work by turning rather than by sleeping: faster, and busy without need.

        Raises:
            OptionError: An argument is not allowed, or the bundle has no such variant.
            ProviderError: ONNX Runtime is missing or too old, or a provider that was asked for does not run.
            BundleError: ONNX Runtime refuses the graph, or the graph is no denoiser.
        """
        self._path = bundle.folder / bundle.variant(variant).graph
        self.alone = bundle.variant(variant).alone
        self._least = bundle.least_onnxruntime
        self._providers = _full_names(providers)
        self.threads = usable_threads() if threads is None else threads
        if type(self.threads) is not int or not 1 <= self.threads <= MOST_THREADS:
            raise OptionError(f"threads={threads!r}: must be an integer from 1 to {MOST_THREADS}")
        if type(spin) is not bool:
            raise OptionError(f"spin={spin!r}: must be True or False")
        self.spin = spin
        self._bundle = bundle
        self._session = self._open()
        self._device = DEVICES.get(self.providers[0], "cpu")
        self._process = os.getpid()

    @property
    def providers(self) -> list[str]:
        """Names of the execution providers in use."""
        return list(self._session.get_providers())

    def __call__(self, batch: Batch, *, logits: bool = False) -> Predictions:
        """Run one pass over the tokens of `batch`.

        Raises:
            ProviderError: ONNX Runtime fails.
        """
        if os.getpid() != self._process:  # threads do not survive a fork
            self._session, self._process = self._open(), os.getpid()
        names, asked = (*REDUCTIONS, "logits") if logits else REDUCTIONS, len(batch.rows)
        batch = padded(batch) if self._in_buckets else batch
        bound = batch.past or batch.keep or self._in_buckets
        try:
            predictions = cut((self._run_bound if bound else self._run)(batch, names), asked)
        except Exception as error:  # ONNX Runtime's errors share no other base
            raise ProviderError(f"ONNX Runtime failed to run {self._path}: {error}") from error
        return widened(predictions, self._bundle.output_vocabulary, self._bundle.vocab_size)

    def _run(self, batch: Batch, names: Sequence[str]) -> Predictions:
        """Run a pass that computes every token and leaves nothing."""
        feeds = _own_feeds(batch) | self._empty_past(len(batch.input_ids))
        return Predictions(*self._session.run(names, feeds))

    def _run_bound(self, batch: Batch, names: Sequence[str]) -> Predictions:
        """Run a pass whose keys and values come from an earlier one, or stay for later ones, where they are."""
        binding = self._session.io_binding()
        feeds = _own_feeds(batch)
        if batch.past is None:
            feeds |= self._empty_past(len(batch.input_ids))
        else:
            feeds["past_position_ids"] = batch.past.position_ids
            assert isinstance(batch.past.kept, KeysValues), "a past is what a pass of this session kept"
            for name, value in zip(("past_key", "past_value"), batch.past.kept, strict=True):
                binding.bind_ortvalue_input(name, value)
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name in names:
            binding.bind_output(name)
        for name in KeysValues._fields if batch.keep else ():
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        kept = KeysValues(*outputs[len(names) :]) if batch.keep else None
        read = dict(zip(names, (value.numpy() for value in outputs[: len(names)]), strict=True))
        return Predictions(**read, kept=kept)

    @property
    def _in_buckets(self) -> bool:
        """Whether passes are padded to few shapes: on a GPU, where a new one is slow; a CPU would only compute more."""
        return self._device != "cpu"

    def _empty_past(self, size: int) -> dict[str, Any]:
        nothing = np.zeros((self._bundle.layers, size, 0, self._bundle.hidden_size), np.float32)
        return {"past_position_ids": np.zeros((size, 0), np.int64), "past_key": nothing, "past_value": nothing}

    def _open(self) -> Any:
        ort = import_onnxruntime(self._least)
        if self.alone and PROVIDERS["cuda"] in self._providers:
            raise OptionError("int8 has no products on CUDA (they would run on the CPU): use the variant fp16 or fp32")
        providers = self._providers or _default_providers(ort, PROVIDERS["cpu"] if self.alone else PROVIDERS["cuda"])
        missing = [name for name in providers if name not in ort.get_available_providers()]
        if missing:
            raise ProviderError(_no_provider(missing[0], ort.get_available_providers()))
        session = open_graph(self._path, self._least, providers=providers, threads=self.threads, spin=self.spin)
        absent = [name for name in self._providers if name not in session.get_providers()]
        if absent:
            raise ProviderError(_no_provider(absent[0], session.get_providers()))
        _check_contract(session, self._path, self._bundle)
        return session


def open_graph(
    path: Path, least: str, *, providers: Sequence[str] = (PROVIDERS["cpu"],), threads: int, spin: bool = True
) -> Any:
    """Open a graph of a bundle.

    Args:
        path: Of the graph.
        least: The oldest release of ONNX Runtime that runs it.
        providers: Full names, all of them there.
        threads: Within an operator.
        spin: Whether they wait for work by turning.

    Raises:
        BundleError: ONNX Runtime refuses it.
    """
    ort = import_onnxruntime(least)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    options.enable_mem_pattern = False  # shapes differ from step to step, and each new one would cost memory
    if _may_saturate():  # then unsigned bytes alone, which cannot: 1.7 times slower where there was no need
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(path, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise BundleError(f"ONNX Runtime {ort.__version__} cannot open {path}: {error}") from error


def widened(predictions: Predictions, output_vocabulary: Sequence[int] | None, vocab_size: int) -> Predictions:
    """Give `logits`, where they were asked for, a column for every piece: -inf for one that is never predicted."""
    if predictions.logits is None or output_vocabulary is None:
        return predictions
    logits = np.full((len(predictions.logits), vocab_size), -np.inf, predictions.logits.dtype)
    logits[:, output_vocabulary] = predictions.logits
    return replace(predictions, logits=logits)


def _own_feeds(batch: Batch) -> dict[str, Any]:
    """Return the inputs that tell of the tokens which the pass computes."""
    return {name: getattr(batch, name) for name in OWN_INPUTS}


def usable_threads() -> int:
    """Return how many threads this process can keep busy: the lesser of its affinity and its cgroup's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(affinity, int(quota)) if quota else affinity)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the processors that the cgroup grants, from version 2's `cpu.max` or version 1's pair of files."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _may_saturate(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the sum of two products of unsigned and signed bytes can saturate at 16 bits.

    It can on x86 without VNNI; where that cannot be seen, it is taken to be missing.
    """
    if platform.machine().lower() not in X86:
        return False
    try:
        return not VNNI & set(cpuinfo.read_text("utf-8").split())
    except (OSError, UnicodeDecodeError):
        return True


@cache
def import_onnxruntime(least: str) -> ModuleType:
    """Import onnxruntime with its telemetry off, and check its version.

    Raises:
        ProviderError: It is missing, broken or older than `least`.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default from 1.29 on Linux and macOS
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ProviderError(
            f"ONNX Runtime cannot be imported ({error}): pip install 'diffutron-ort[cpu]', or [gpu] for CUDA"
        ) from error
    if not hasattr(ort, "InferenceSession"):
        raise ProviderError(f"the installed ONNX Runtime is broken. {_both_installed()}")
    if _numbers(ort.__version__) < _numbers(least):
        raise ProviderError(f"ONNX Runtime {ort.__version__} is too old: pip install 'onnxruntime>={least}'")
    module: ModuleType = ort
    return module


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


def _full_names(providers: Sequence[str] | None) -> list[str]:
    if isinstance(providers, str):
        providers = [providers]
    if providers is not None and not (isinstance(providers, Sequence) and all(isinstance(p, str) for p in providers)):
        raise OptionError(f"providers={providers!r}: must be names, such as {', '.join(PROVIDERS)}")
    return [PROVIDERS.get(name, name) for name in providers or ()]


def _default_providers(ort: ModuleType, best: str) -> list[str]:
    available = ort.get_available_providers()
    return [name for name in dict.fromkeys((best, PROVIDERS["cpu"])) if name in available]


def _no_provider(wanted: str, available: Sequence[str]) -> str:
    return (
        f"provider {wanted!r} is not there: ONNX Runtime has {', '.join(available)} here. {_both_installed()}".rstrip()
    )


def _both_installed() -> str:
    """Return what to do about two packages of ONNX Runtime that overwrite each other, or about none for CUDA."""
    from importlib import metadata  # takes 10 ms to import, and only an error needs it

    installed = {name for name in RUNTIMES if any(True for _ in metadata.distributions(name=name))}
    if len(installed) == len(RUNTIMES):
        return (
            f"{' and '.join(RUNTIMES)} are both installed, and overwrite each other: uninstall both, then install one"
        )
    return "For CUDA: pip install 'diffutron-ort[gpu]'" if "onnxruntime-gpu" not in installed else ""


def _check_contract(session: Any, path: Path, bundle: Bundle) -> None:
    """Compare the graph's inputs and outputs with the denoiser's, and its sizes with the manifest's."""
    for kind, expected, actual in (("input", INPUTS, session.get_inputs()), ("output", OUTPUTS, session.get_outputs())):
        found = {value.name: (value.type, len(value.shape)) for value in actual}
        if found != expected:
            wrong = sorted(set(found.items()) ^ set(expected.items()))
            raise BundleError(f"{path} is no denoiser: its {kind}s differ in {wrong}; export the model again")
    sizes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    layers, _, _, hidden = sizes["past_key"]
    if (layers, hidden, sizes["logits"][1]) != (bundle.layers, bundle.hidden_size, bundle.columns):
        raise BundleError(
            f"{path} has {layers} layers of {hidden} and {sizes['logits'][1]} pieces, its manifest says "
            f"{bundle.layers}, {bundle.hidden_size} and {bundle.columns}; export the model again"
        )
