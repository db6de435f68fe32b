"""A variant of a bundle, running; the only importer of onnxruntime."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from diffutron_ort.brief import brief, in_brief
from diffutron_ort.bundle.manifest import Bundle, Variant
from diffutron_ort.errors import BundleError, DiffutronError, OptionError, ProviderError
from diffutron_ort.runtime.contract import PassInput, Predictions
from diffutron_ort.runtime.cpu import choose_threads
from diffutron_ort.runtime.forks import fork_count, keep_in_children
from diffutron_ort.runtime.graph_guard import DENOISER, Kind, checked_graph
from diffutron_ort.runtime.kv_cache import SequenceCache, Store, caches_of, common_store
from diffutron_ort.runtime.outputs import check_predictions
from diffutron_ort.runtime.padding import cut, padded

LEAST_ONNXRUNTIME = "1.24.2"  # before it, a graph can read any file of the user's; pyproject.toml says it too
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}  # short names
X86 = ("x86_64", "amd64", "i386", "i686", "x86")  # as `platform.machine` has it, in lower case
VNNI = {"avx512_vnni", "avx_vnni"}  # flags of processors whose products of bytes are summed up in 32 bits
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")

Signature: TypeAlias = Mapping[str, tuple[str, int]]  # ONNX Runtime's name of the type, and the number of axes

# The graph's contract.
INPUTS: Signature = {
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
OUTPUTS: Signature = {
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
            threads: Within an operator; None takes as many as this process may use, or one for a small model on a busy
                machine.
            spin: Whether they wait for work by turning rather than by sleeping: faster, and busy without need.

        Raises:
            OptionError: An argument is not allowed, or the bundle has no such variant.
            ProviderError: ONNX Runtime is missing or too old, or a provider that was asked for does not run.
            BundleError: ONNX Runtime refuses the graph, or the graph is no denoiser.
        """
        self._bundle = replace(bundle, folder=bundle.folder.absolute())  # a child that opens it may be elsewhere
        self._variant = bundle.variant(variant)
        self.batch_invariant = self._variant.batch_invariant
        self._providers = _full_names(providers)
        self.threads = choose_threads(threads, bundle.files[self._variant.weights].size)
        if type(spin) is not bool:
            raise OptionError(f"spin={brief(spin)}: must be True or False")
        self.spin = spin
        self._session, self._forks = self._open(), fork_count()
        self._device = DEVICES.get(self.providers[0], "cpu")
        self._predictable = np.zeros(bundle.vocab_size, bool)
        self._predictable[slice(None) if bundle.output_vocabulary is None else list(bundle.output_vocabulary)] = True

    @property
    def providers(self) -> list[str]:
        """Names of the execution providers in use."""
        return list(self._session.get_providers())

    def __call__(self, given: PassInput, /, *, logits: bool = False) -> Predictions:
        """Run one pass.

        Raises:
            ProviderError: ONNX Runtime fails.
            BundleError: The graph returned what no denoiser can have predicted.
        """
        if self._forks != fork_count():  # threads do not survive a fork
            self._session, self._forks = self._open(), fork_count()
        names = (*REDUCTIONS, "logits") if logits else REDUCTIONS
        with running(self._path):
            batch = padded(given) if self._in_buckets else given
            bound = batch.past or batch.return_kv or self._in_buckets
            found = (self._run_bound if bound else self._run)(batch, names)
            check_predictions(found, len(batch.rows), self._predictable, self._path, logits=logits)
            return widened(cut(found, len(given.rows)), self._bundle.output_vocabulary, self._bundle.vocab_size)

    def _run(self, batch: PassInput, names: Sequence[str]) -> Predictions:
        """Run a pass that computes every token and leaves nothing."""
        feeds = _own_feeds(batch) | self._empty_past(len(batch.input_ids))
        return Predictions(*self._session.run(names, feeds))

    def _run_bound(self, batch: PassInput, names: Sequence[str]) -> Predictions:
        """Run a pass whose keys and values come from an earlier one, or stay for later ones, where they are."""
        binding = self._session.io_binding()
        for name, array in (_own_feeds(batch) | self._bind_past(binding, batch)).items():
            binding.bind_cpu_input(name, array)
        for name in names:
            binding.bind_output(name)
        for name in Store._fields if batch.return_kv else ():
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        read = dict(zip(names, (value.numpy() for value in outputs[: len(names)]), strict=True))
        if not batch.return_kv:
            return Predictions(**read)
        store = Store(*map(keep_in_children, outputs[len(names) :]))
        self._check_store(store, batch.input_ids.shape)
        return Predictions(**read, kv_caches=caches_of(store))

    def _bind_past(self, binding: Any, batch: PassInput) -> dict[str, Any]:
        """Bind the keys and values of earlier passes, if there are any, and return the feeds that go with them."""
        past = batch.past
        if past is None:
            return self._empty_past(len(batch.input_ids))
        caches = [cache for cache in past.caches if isinstance(cache, SequenceCache)]
        assert len(caches) == len(past.caches), "a cache is what a pass of a session returned"
        store = common_store(caches, self._device)
        for name, value in zip(("past_key", "past_value"), store, strict=True):
            binding.bind_ortvalue_input(name, value)
        missing = store.seq - past.position_ids.shape[1]
        return {"past_position_ids": np.pad(past.position_ids, ((0, 0), (0, missing)), constant_values=-1)}

    def _check_store(self, store: Store, shape: Sequence[int]) -> None:
        """Raise BundleError unless keys and values are of a pass over tokens of this shape, [batch, seq]."""
        expected = [self._bundle.layers, *shape, self._bundle.hidden_size]
        for name, value in store._asdict().items():
            if (value.data_type(), value.shape()) != ("tensor(float)", expected):
                said = f"{value.data_type()} {value.shape()}"
                raise BundleError(
                    f"{self._path} returned {name} as {said}, not float32 {expected}: export the model again"
                )

    @property
    def _path(self) -> Path:
        return self._bundle.folder / self._variant.graph

    @property
    def _in_buckets(self) -> bool:
        """Whether passes are padded to few shapes: on a GPU, where a new one is slow; a CPU would only compute more."""
        return self._device != "cpu"

    def _empty_past(self, size: int) -> dict[str, Any]:
        nothing = np.zeros((self._bundle.layers, size, 0, self._bundle.hidden_size), np.float32)
        return {"past_position_ids": np.zeros((size, 0), np.int64), "past_key": nothing, "past_value": nothing}

    def _open(self) -> Any:
        ort = import_onnxruntime(self._bundle.least_onnxruntime)
        if not self.batch_invariant and PROVIDERS["cuda"] in self._providers:
            raise OptionError("int8 has no products on CUDA (they would run on the CPU): use the variant fp16 or fp32")
        providers = self._providers or _default_providers(
            ort, PROVIDERS["cuda"] if self.batch_invariant else PROVIDERS["cpu"]
        )
        missing = [name for name in providers if name not in ort.get_available_providers()]
        if missing:
            raise ProviderError(_no_provider(missing[0], ort.get_available_providers()))
        session = open_graph(
            self._bundle, self._variant, DENOISER, providers=providers, threads=self.threads, spin=self.spin
        )
        absent = [name for name in self._providers if name not in session.get_providers()]
        if absent:
            raise ProviderError(_no_provider(absent[0], session.get_providers()))
        check_contract(session, DENOISER.name, INPUTS, OUTPUTS, self._path)
        _check_sizes(session, self._path, self._bundle)
        return session


def open_graph(
    bundle: Bundle,
    variant: Variant,
    kind: Kind,
    *,
    providers: Sequence[str] = (PROVIDERS["cpu"],),
    threads: int,
    spin: bool = True,
) -> Any:
    """Open a graph of a bundle, after a look at what it holds. A forked child never destroys what it returns.

    Args:
        bundle: Verified.
        variant: Of it.
        kind: Which of the variant's graphs.
        providers: Full names, all of them there.
        threads: Within an operator.
        spin: Whether they wait for work by turning.

    Raises:
        BundleError: The graph is not of what our exporter writes, or ONNX Runtime refuses it.
        ProviderError: There is not enough memory.
    """
    ort = import_onnxruntime(bundle.least_onnxruntime)
    path = checked_graph(bundle, variant, kind)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # its errors are raised, and its log writes a graph's names as they are
    options.enable_mem_pattern = False  # shapes differ from step to step, and each new one would cost memory
    options.add_session_config_entry("session.load_model_format", "ONNX")  # and no other that the file might look like
    if _may_saturate():  # then unsigned bytes alone, which cannot: 1.7 times slower where there was no need
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return keep_in_children(ort.InferenceSession(path, options, providers=list(providers)))
    except MemoryError as error:
        raise ProviderError(f"there is not enough memory to open {path}: choose a smaller variant") from error
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise BundleError(f"ONNX Runtime {ort.__version__} cannot open {path}: {in_brief(error)}") from error


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Turn the errors of a pass of the graph at `path` into ours.

    Raises:
        ProviderError: ONNX Runtime fails, or there is not enough memory.
    """
    try:
        yield
    except DiffutronError:
        raise
    except MemoryError as error:
        raise ProviderError(f"there is not enough memory to run {path}: give shorter or fewer texts at once") from error
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise ProviderError(f"ONNX Runtime failed to run {path}: {in_brief(error)}") from error


def widened(predictions: Predictions, output_vocabulary: Sequence[int] | None, vocab_size: int) -> Predictions:
    """Give `logits`, where they were asked for, a column for every piece: -inf for one that is never predicted."""
    if predictions.logits is None or output_vocabulary is None:
        return predictions
    logits = np.full((len(predictions.logits), vocab_size), -np.inf, predictions.logits.dtype)
    logits[:, output_vocabulary] = predictions.logits
    return replace(predictions, logits=logits)


def _own_feeds(batch: PassInput) -> dict[str, Any]:
    """Return the inputs that tell of the tokens which the pass computes."""
    return {name: getattr(batch, name) for name in OWN_INPUTS}


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

    Args:
        least: The oldest that the bundle's graphs run on; never one before LEAST_ONNXRUNTIME.

    Raises:
        ProviderError: It is missing, broken or too old.
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
    least = max(least, LEAST_ONNXRUNTIME, key=_numbers)
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
        raise OptionError(f"providers={brief(providers)}: must be names, such as {', '.join(PROVIDERS)}")
    return [PROVIDERS.get(name, name) for name in providers or ()]


def _default_providers(ort: ModuleType, best: str) -> list[str]:
    available = ort.get_available_providers()
    return [name for name in dict.fromkeys((best, PROVIDERS["cpu"])) if name in available]


def _no_provider(wanted: str, available: Sequence[str]) -> str:
    there = ", ".join(available)
    return f"provider {brief(wanted)} is not there: ONNX Runtime has {there} here. {_both_installed()}".rstrip()


def _both_installed() -> str:
    """Return what to do about two packages of ONNX Runtime that overwrite each other, or about none for CUDA."""
    from importlib import metadata  # takes 10 ms to import, and only an error needs it

    installed = {name for name in RUNTIMES if any(True for _ in metadata.distributions(name=name))}
    if len(installed) == len(RUNTIMES):
        return (
            f"{' and '.join(RUNTIMES)} are both installed, and overwrite each other: uninstall both, then install one"
        )
    return "For CUDA: pip install 'diffutron-ort[gpu]'" if "onnxruntime-gpu" not in installed else ""


def check_contract(session: Any, name: str, inputs: Signature, outputs: Signature, path: Path) -> None:
    """Compare a graph's inputs and outputs with those that it should have.

    Raises:
        BundleError: They differ in name, type or number of axes.
    """
    both = (("input", inputs, session.get_inputs()), ("output", outputs, session.get_outputs()))
    for kind, expected, actual in both:
        found = {value.name: (value.type, len(value.shape or ())) for value in actual}
        if found != expected:
            wrong = sorted(set(found.items()) ^ set(expected.items()))
            raise BundleError(f"{path} is no {name}: its {kind}s differ in {brief(wrong)}; export the model again")


def _check_sizes(session: Any, path: Path, bundle: Bundle) -> None:
    """Compare a denoiser's sizes with the manifest's."""
    sizes = {value.name: value.shape for value in (*session.get_inputs(), *session.get_outputs())}
    expected = [bundle.layers, bundle.hidden_size, bundle.columns]
    for name in ("past_key", "past_value", "key", "value"):
        found = [*sizes[name][::3], sizes["logits"][1]]
        if found != expected:
            layers, hidden, columns = map(brief, found)  # the names of sizes that are not fixed
            raise BundleError(
                f"{path} has {layers} layers of {hidden} and {columns} pieces, its manifest says "
                f"{bundle.layers}, {bundle.hidden_size} and {bundle.columns}; export the model again"
            )
