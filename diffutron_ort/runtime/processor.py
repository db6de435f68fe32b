"""What the system says of the processor: its name, and the flags of its instruction sets."""

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = ("x86_64", "amd64", "i386", "i686", "x86")  # names that `platform.machine` gives, in lower case
VNNI = {"avx512_vnni", "avx_vnni"}  # flags of processors that sum products of bytes in 32 bits


def is_x86() -> bool:
    """Return whether the processor has the x86 instruction set."""
    return platform.machine().lower() in X86


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """Return the processor's name, or its instruction set where the system does not say more."""
    return _first(cpuinfo, "model name") or platform.processor() or platform.machine()


def processor_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Return the flags of the first processor, as Linux names them; none where the system does not say."""
    return frozenset((_first(cpuinfo, "flags") or _first(cpuinfo, "Features")).split())


def _first(cpuinfo: Path, name: str) -> str:
    """Return the first value of `name` in a file of `name : value` lines; empty if there is none."""
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    values = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
    return next(values, "")
