"""The processor: its instruction sets, and what they mean for 8-bit variants."""

from collections.abc import Iterator

from diffutron_ort.doctor.figures import FIGURES, MACHINE, REAL
from diffutron_ort.doctor.findings import NOTE, OK, Finding
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.runtime.processor import VNNI, is_x86, processor_flags, processor_name

TOPIC = "processor"
NAMES = {  # of Linux's flags that decide how fast a pass is
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX",
    "asimd": "NEON",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "SVE",
}
SLOWER = 1.7  # times, of 8-bit products that cannot saturate; as `runtime.opening` says


def check(subject: Subject) -> Iterator[Finding]:  # noqa: ARG001
    """Report the processor's name and instruction sets, and what to expect of int8."""
    flags = processor_flags()
    names = [name for flag, name in NAMES.items() if flag in flags]
    facts = {"name": processor_name(), "instructions": [flag for flag in NAMES if flag in flags]}
    yield Finding(TOPIC, OK, f"{processor_name()}: {', '.join(names) or 'instruction sets unknown'}", facts=facts)
    yield _int8(flags)


def _int8(flags: frozenset[str]) -> Finding:
    """Return what the flags mean for 8-bit products."""
    if not flags:
        return Finding(
            TOPIC, NOTE, "whether int8 is fast here is not known", "measure: diffutron-ort bench --variant int8"
        )
    if flags & VNNI:
        ratio = FIGURES[REAL, "int8"].full / FIGURES[REAL, "fp32"].full
        how = "VNNI and AMX" if "amx_int8" in flags else "VNNI"
        text = f"int8 is fast ({how}): at the real size, a pass took {ratio:.2f} of the time of fp32 on {MACHINE}"
        return Finding(TOPIC, OK, text)
    if is_x86():
        text = f"int8 saves memory, not time: without VNNI, its products take about {SLOWER} times as long"
        return Finding(
            TOPIC, NOTE, text, "use fp32 if it fits in memory: diffutron-ort export SOURCE OUT --variant fp32"
        )
    if own := [NAMES[flag] for flag in ("asimddp", "i8mm") if flag in flags]:
        text = f"int8 has products of its own here ({' and '.join(own)}); they have not been measured"
        return Finding(TOPIC, OK, text)
    return Finding(TOPIC, NOTE, "int8 saves memory, probably not time: no dotprod, no i8mm")
