"""Import ONNX Runtime, and open graphs with it: the only importer of onnxruntime, beside `kv_cache`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from diffutron_ort.brief import in_brief
from diffutron_ort.bundle.manifest import Bundle, Variant
from diffutron_ort.errors import BundleError, DiffutronError, ProviderError
from diffutron_ort.runtime.cuda import failure_in
from diffutron_ort.runtime.forks import keep_in_children
from diffutron_ort.runtime.graph_guard import Kind, checked_graph
from diffutron_ort.runtime.processor import CPUINFO, VNNI, is_x86, processor_flags
from diffutron_ort.runtime.providers import PROVIDERS, Provider, broken_installation, how_to_install
from diffutron_ort.runtime.telemetry import turn_telemetry_off

LEAST_ONNXRUNTIME = "1.24.2"  # older releases let a graph read any file of the user; pyproject.toml has it too


def open_graph(
    bundle: Bundle,
    variant: Variant,
    kind: Kind,
    *,
    providers: Sequence[Provider] = (PROVIDERS["cpu"],),
    threads: int,
    spin: bool = True,
) -> Any:
    """Check a graph of a bundle, and open it. A forked child never destroys the session that this returns.

    Args:
        bundle: A verified bundle.
        variant: One of its variants.
        kind: Which of the variant's graphs.
        providers: Available ones, the preferred first.
        threads: Threads of an operator.
        spin: Whether idle threads busy-wait.

    Raises:
        BundleError: The graph holds what our exporter does not write, or ONNX Runtime refuses it.
        ProviderError: There is not enough memory, or a provider other than the CPU's fails.
    """
    ort = import_onnxruntime(bundle.least_onnxruntime)
    path = checked_graph(bundle, variant, kind)
    # With its fallback, ONNX Runtime prints on standard output that a provider fails, and takes the CPU.
    how = {"providers": [provider.full_name for provider in providers], "enable_fallback": 0}
    try:
        return keep_in_children(ort.InferenceSession(path, _session_options(ort, threads, spin), **how))
    except MemoryError as error:
        raise ProviderError(f"there is not enough memory to open {path}: choose a smaller variant") from error
    except Exception as error:  # ONNX Runtime's errors share no other base
        said = f"ONNX Runtime {ort.__version__} cannot open {path}"
        if providers[0] == PROVIDERS["cpu"]:
            raise BundleError(f"{said}: {in_brief(error)}") from error
        raise ProviderError(f"{said} with provider {providers[0].name!r}: {failure_in(error)}") from error


def _session_options(ort: ModuleType, threads: int, spin: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised anyway, and the log prints a graph's names unescaped
    options.enable_mem_pattern = False  # shapes differ from step to step, and each new one would cost memory
    options.add_session_config_entry("session.load_model_format", "ONNX")  # whatever the file looks like
    if _may_saturate():  # use unsigned bytes only, which cannot: 1.7 times slower where it is not needed
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


@contextmanager
def running(path: Path) -> Iterator[None]:
    """Turn errors of a pass of the graph at `path` into ours.

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
        raise ProviderError(f"ONNX Runtime failed to run {path}: {failure_in(error)}") from error


@cache
def import_onnxruntime(least: str) -> ModuleType:
    """Import onnxruntime with its telemetry off, and check its version.

    Args:
        least: The oldest release that runs the bundle's graphs; LEAST_ONNXRUNTIME applies as well.

    Raises:
        ProviderError: It is missing, broken or too old.
    """
    turn_telemetry_off()
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ProviderError(f"ONNX Runtime cannot be imported ({error}): {how_to_install()}") from error
    if not hasattr(ort, "InferenceSession"):
        raise ProviderError(broken_installation())
    least = max(least, LEAST_ONNXRUNTIME, key=_numbers)
    if _numbers(ort.__version__) < _numbers(least):
        raise ProviderError(f"ONNX Runtime {ort.__version__} is too old: pip install 'onnxruntime>={least}'")
    module: ModuleType = ort
    return module


def cuda_version() -> str:
    """Return the version of CUDA that the installed ONNX Runtime was built for, such as "13.0"; empty for none."""
    return str(getattr(import_onnxruntime(LEAST_ONNXRUNTIME), "cuda_version", None) or "")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


def _may_saturate(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the sum of two products of an unsigned and a signed byte can saturate at 16 bits.

    It can on x86 without VNNI. If the processor's flags cannot be read, assume that it can.
    """
    return is_x86() and not VNNI & processor_flags(cpuinfo)
