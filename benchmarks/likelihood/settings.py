"""What is compared: variants of nano, methods, and presets; and the bundles that this needs."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

NANO = Path(__file__).parents[2] / "models" / "nano"
WHOLE, SMALL = "whole", "small"
"""The bundles: with the whole vocabulary, and with an output vocabulary."""


class Setting(NamedTuple):
    """A way to score texts.

    Attributes:
        label: What to call it.
        bundle: `WHOLE` or `SMALL`.
        variant: Of the bundle.
        how: Other arguments of `measured`.
        against: The label of the setting that it is compared with.
    """

    label: str
    bundle: str
    variant: str
    how: Mapping[str, Any]
    against: str


ELBO: Mapping[str, Any] = {"method": "elbo", "samples": 16}
POLICY: Mapping[str, Any] = {"method": "policy"}
PLL: Mapping[str, Any] = {"method": "pll"}
FAST = {**POLICY, "preset": "fast"}
SETTINGS = (
    Setting("elbo, fp32", WHOLE, "fp32", ELBO, "elbo, fp32"),
    Setting("elbo, int8", WHOLE, "int8", ELBO, "elbo, fp32"),
    Setting("elbo, int8-batch", WHOLE, "int8-batch", ELBO, "elbo, fp32"),
    Setting("elbo, fp32, output vocabulary", SMALL, "fp32", ELBO, "elbo, fp32"),
    Setting("elbo, int8, output vocabulary", SMALL, "int8", ELBO, "elbo, fp32"),
    Setting("policy, fp32", WHOLE, "fp32", POLICY, "policy, fp32"),
    Setting("policy, int8", WHOLE, "int8", POLICY, "policy, fp32"),
    Setting("policy, fp32, fast", WHOLE, "fp32", FAST, "policy, fp32"),
)
SHORT_ONLY = (
    Setting("pll, fp32", WHOLE, "fp32", PLL, "pll, fp32"),
    Setting("pll, int8", WHOLE, "int8", PLL, "pll, fp32"),
)
"""What takes a pass for each token, so it is asked of short texts alone."""


def bundles(work: Path, vocabulary: Iterable[str]) -> dict[str, Path]:
    """Export nano's checkpoint into a folder, unless it is there, and return the bundles."""
    text = work / "vocabulary.txt"
    text.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    small = ["--output-vocabulary", str(text)]
    wanted = {WHOLE: ["--variant", "fp32", "int8", "int8-batch"], SMALL: ["--variant", "fp32", "int8", *small]}
    for name, flags in wanted.items():
        if not (work / name).exists():
            command = [
                sys.executable,
                "-m",
                "diffutron_ort",
                "export",
                str(NANO / "checkpoint"),
                str(work / name),
                *flags,
            ]
            subprocess.run(command, check=True)
    return {name: work / name for name in wanted}
