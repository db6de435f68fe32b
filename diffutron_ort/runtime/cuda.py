"""What CUDA's provider needs besides ONNX Runtime: NVIDIA's driver, a GPU, and libraries that pip may have installed.

The loader does not look where pip puts NVIDIA's libraries, so they are loaded from there before ONNX Runtime asks for
them by name. `onnxruntime.preload_dlls` is not used: it prints on standard output what it does not find, looks nowhere
but beside ONNX Runtime's own folder, and in release 1.27 not where the packages for CUDA 13 put them.
"""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from diffutron_ort.brief import in_brief

DRIVER = "libcuda.so.1"
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
INSTALL = "pip install 'onnxruntime-gpu[cuda,cudnn]'"  # [cuda] alone lacks cuBLAS, which comes with cuDNN
FAILURE = re.compile(r"CUDA failure \d+: [^;\n]*")  # amid the C++ names of a message of ONNX Runtime's
FOR_CUDA_12 = "pip install 'onnxruntime-gpu[cuda,cudnn]<1.27'"  # from 1.27 on, releases are for CUDA 13


class Trouble(NamedTuple):
    """A reason why CUDA cannot be used.

    Attributes:
        text: What is wrong.
        remedy: What to do about it.
        is_absence: Whether there is no GPU to be used, as far as this process can see.
    """

    text: str
    remedy: str
    is_absence: bool = False

    def __str__(self) -> str:
        """Return both as a sentence without its full stop."""
        return f"{self.text}: {self.remedy}"


class Library(NamedTuple):
    """A library of CUDA's.

    Attributes:
        name: How the name of its file begins.
        package: The package on PyPI that has it.
        version: The version in the name of its file.
        is_needed: Whether no release can load the provider without it; those from 1.28 on open the others when an
            operator first needs them.
    """

    name: str
    package: str
    version: int
    is_needed: bool = True

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.so.{self.version}"

    def __str__(self) -> str:
        """Return the names of its file and of its package."""
        return f"{self.file} (of {self.package})"


LIBRARIES = {  # by CUDA's major version; each library after those that it needs
    12: (
        Library("libcudart", "nvidia-cuda-runtime-cu12", 12),
        Library("libnvrtc", "nvidia-cuda-nvrtc-cu12", 12, is_needed=False),
        Library("libcublasLt", "nvidia-cublas-cu12", 12),
        Library("libcublas", "nvidia-cublas-cu12", 12),
        Library("libcurand", "nvidia-curand-cu12", 10),
        Library("libcufft", "nvidia-cufft-cu12", 11, is_needed=False),
        Library("libcudnn", "nvidia-cudnn-cu12", 9, is_needed=False),
    ),
    13: (
        Library("libcudart", "nvidia-cuda-runtime", 13),
        Library("libnvrtc", "nvidia-cuda-nvrtc", 13, is_needed=False),
        Library("libcublasLt", "nvidia-cublas", 13),
        Library("libcublas", "nvidia-cublas", 13),
        Library("libcurand", "nvidia-curand", 10),
        Library("libcufft", "nvidia-cufft", 12, is_needed=False),
        Library("libcudnn", "nvidia-cudnn-cu13", 9, is_needed=False),
    ),
}


def troubles(cuda_version: str) -> Iterator[Trouble]:
    """Yield what keeps CUDA from being used; load CUDA's libraries once the driver has been looked at.

    Args:
        cuda_version: What ONNX Runtime was built for, such as "13.0"; nothing is known of versions that `LIBRARIES`
            lacks, nor of other systems than Linux.
    """
    major = _major(cuda_version)
    if major in LIBRARIES:
        for trouble_of in (_trouble_of_driver, _trouble_of_libraries):
            if trouble := trouble_of(major):
                yield trouble


def missing(cuda_version: str) -> tuple[Library, ...]:
    """Load CUDA's libraries into this process, and return those that cannot be; `cuda_version` is as for `troubles`."""
    return _load(_major(cuda_version))


def failure_in(error: BaseException) -> str:
    """Return what CUDA says in an error of ONNX Runtime's, or the error in brief."""
    found = FAILURE.search(str(error))
    return found[0].strip() if found else in_brief(error)


def _major(cuda_version: str) -> int:
    """Return CUDA's major version; 0 where nothing is known of it."""
    major = cuda_version.partition(".")[0]
    return int(major) if major.isdecimal() and sys.platform == "linux" else 0


@cache
def _load(major: int) -> tuple[Library, ...]:
    return tuple(library for library in LIBRARIES.get(major, ()) if not _is_loaded(library.file))


def _is_loaded(file: str) -> bool:
    """Load a library from NVIDIA's packages, or else by name as ONNX Runtime will; return whether it is loaded now."""
    places = (str(place) for path in sys.path for place in sorted(Path(path, "nvidia").glob(f"*/lib/{file}")))
    return any(map(_open, chain(places, [file])))


def _open(file: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(file)
    except OSError:  # it is missing, damaged, or needs what is
        return None


def _trouble_of_libraries(major: int) -> Trouble | None:
    absent = [str(library) for library in _load(major) if library.is_needed]
    return Trouble(f"{', '.join(absent)} cannot be loaded", INSTALL) if absent else None


@cache
def _trouble_of_driver(major: int) -> Trouble | None:
    """Return what is wrong with the driver: it is missing, finds no GPU, or is too old for a version of CUDA."""
    driver = _open(DRIVER)
    if driver is None:
        remedy = "install it, or start the container with docker run --gpus all"
        return Trouble(f"NVIDIA's driver is not installed here ({DRIVER})", remedy, is_absence=True)
    code, version = driver.cuInit(0), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    if code == NO_DEVICE:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if visible is None else f", and CUDA_VISIBLE_DEVICES is {visible!r}"
        return Trouble(f"NVIDIA's driver finds no GPU{why}", "see what nvidia-smi says", is_absence=True)
    if 0 < version.value < 1000 * major:
        most = f"{version.value // 1000}.{version.value % 1000 // 10}"
        text = f"NVIDIA's driver is too old: it runs CUDA {most}, and this ONNX Runtime needs CUDA {major}"
        return Trouble(text, f"install a newer driver{f', or {FOR_CUDA_12}' if most.startswith('12.') else ''}")
    return Trouble(f"NVIDIA's driver fails, with error {code}", "see what nvidia-smi says") if code else None
