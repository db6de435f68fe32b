"""What the contenders need, made once in a work folder: the stand-in, our bundle, optimum's exports, OpenVINO's form.

    python -m contest.prepare WHAT WORK

Each is made in a process of its own, so that its memory is free again, and appears under its name when it is complete.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1]
VARIANTS = ("fp32", "int8")


def stand_in(work: Path, out: Path) -> None:
    """Write the random checkpoint of the real model's size."""
    del work
    subprocess.run([sys.executable, BENCHMARKS / "full_size.py", out], check=True)


def ours(work: Path, out: Path) -> None:
    """Export our bundle with all variants that are measured."""
    from diffutron_ort.cli.main import main

    code = main(["export", str(work / "checkpoint"), str(out), "--variant", *VARIANTS])
    if code:
        raise SystemExit(code)


def optimum(work: Path, out: Path) -> None:
    """Export with optimum, as its users do."""
    from optimum.onnxruntime import ORTModelForMaskedLM

    ORTModelForMaskedLM.from_pretrained(work / "checkpoint", export=True).save_pretrained(out)


def optimum_int8(work: Path, out: Path) -> None:
    """Quantize optimum's export with optimum's own recipe for processors like these."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    recipe = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    ORTQuantizer.from_pretrained(work / "optimum").quantize(save_dir=out, quantization_config=recipe)


def openvino(work: Path, out: Path) -> None:
    """Write optimum's export as OpenVINO's own files, with its weights as they are."""
    from openvino import Core, save_model

    save_model(Core().read_model(work / "optimum" / "model.onnx"), out / "model.xml", compress_to_fp16=False)


# In the order in which they are needed: by name of the folder, what makes it and which frameworks want it.
MAKERS: dict[str, tuple[Callable[[Path, Path], None], frozenset[str]]] = {
    "checkpoint": (stand_in, frozenset({"torch", "optimum", "openvino", "ours"})),
    "ours": (ours, frozenset({"ours"})),
    "optimum": (optimum, frozenset({"optimum", "openvino"})),
    "optimum_int8": (optimum_int8, frozenset({"optimum"})),
    "openvino": (openvino, frozenset({"openvino"})),
}


def prepare(work: Path, frameworks: Iterable[str]) -> None:
    """Make what is not there yet."""
    wanted = frozenset(frameworks)
    for name, (_, users) in MAKERS.items():
        if users & wanted and not (work / name).exists():
            print(f"preparing {name}", file=sys.stderr, flush=True)
            subprocess.run(
                [sys.executable, "-m", "contest.prepare", name, work], cwd=BENCHMARKS, stdout=sys.stderr, check=True
            )


def link(work: Path, name: str, target: Path | None) -> None:
    """Let `work` use a folder from elsewhere under `name`, where one is given."""
    if target is not None:
        place = work / name
        if place.is_symlink():
            place.unlink()
        place.symlink_to(target.resolve(strict=True), target_is_directory=True)


def variant_bytes(bundle: Path, variant: str) -> int | None:
    """Return the bytes of a variant's weight file, or None where the bundle has none of that name."""
    variants = json.loads((bundle / "diffutron.json").read_text("utf-8"))["variants"]
    return (bundle / variants[variant]["weights"]).stat().st_size if variant in variants else None


def main(name: str, work: Path) -> None:
    """Make one folder."""
    maker, _ = MAKERS[name]
    scratch = work / f"{name}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    if maker is openvino:
        scratch.mkdir()
    maker(work, scratch)
    scratch.rename(work / name)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
