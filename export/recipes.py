"""Variants as rows of a table: a variant to come is a row to add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffutron_ort.bundle.manifest import PLAIN
from diffutron_ort_export.plain import require, write_plain
from diffutron_ort_export.request import FP16, FP32, INT8
from diffutron_ort_export.variants import Job, write_fp16, write_fp32, write_int8


@dataclass(frozen=True)
class Recipe:
    """How one variant is made.

    Attributes:
        name: as it is asked for.
        stem: its graph is onnx/<stem>.onnx, its weights are beside it in <stem>.onnx.data, and the whole of generation
            with them is the graph onnx/<stem>.onnx with "generate" for "denoiser".
        write: makes the two files, compares them with the checkpoint, and returns the fidelity card.
        alone: whether what else is in a pass moves a sequence's predictions, so that each has to run alone.
        third_party: whether it is for other programs, and no denoiser; its weights are where `plain.weights` says.
        require: refuses to begin where what it is made with is not installed.
    """

    name: str
    stem: str
    write: Callable[[Job], dict[str, Any]]
    alone: bool = False
    third_party: bool = False
    require: Callable[[], None] = lambda: None

    @property
    def graph(self) -> str:
        """The graph's place in the bundle."""
        return f"onnx/{self.stem}.onnx"

    @property
    def generation(self) -> str:
        """The place of the whole of generation in the bundle, as one graph that reads the same weights."""
        return f"onnx/{self.stem.replace('denoiser', 'generate')}.onnx"

    @property
    def weights(self) -> str:
        """The place of the graph's weights in the bundle."""
        return f"{self.graph}.data"


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(name=FP32, stem="denoiser", write=write_fp32),
        Recipe(name=INT8, stem="denoiser_int8", write=write_int8, alone=True),
        Recipe(name=FP16, stem="denoiser_fp16", write=write_fp16),
        Recipe(name=PLAIN, stem="model", write=write_plain, third_party=True, require=require),
    )
}


def chosen(names: Sequence[str]) -> list[Recipe]:
    """Return the rows of these names, as `request.check_variants` returns them.

    Raises:
        DiffutronError: what one is made with is not installed.
    """
    recipes = [RECIPES[name] for name in names]
    for recipe in recipes:
        recipe.require()
    return recipes
