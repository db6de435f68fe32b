"""Variants as rows of a table: a variant to come is a row to add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffutron_ort.errors import OptionError
from diffutron_ort.manifest import PLAIN

from .plain import require, write_plain
from .variants import Job, write_fp16, write_fp32, write_int8


@dataclass(frozen=True)
class Recipe:
    """How one variant is made.

    Attributes:
        name: as it is asked for.
        stem: its graph is onnx/<stem>.onnx, its weights are beside it in <stem>.onnx.data, and the whole of generation
            with them is the graph onnx/<stem>.onnx with "generate" for "denoiser".
        write: makes the two files, compares them with the checkpoint, and returns the fidelity card.
        alone: whether what else is in a pass moves a sequence's predictions, so that each has to run alone.
        foreign: whether it is for other programs, and no denoiser; its weights are where `plain.weights` says.
        require: refuses to begin where what it is made with is not installed.
    """

    name: str
    stem: str
    write: Callable[[Job], dict[str, Any]]
    alone: bool = False
    foreign: bool = False
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
        Recipe(name="fp32", stem="denoiser", write=write_fp32),
        Recipe(name="int8", stem="denoiser_int8", write=write_int8, alone=True),
        Recipe(name="fp16", stem="denoiser_fp16", write=write_fp16),
        Recipe(name=PLAIN, stem="model", write=write_plain, foreign=True, require=require),
    )
}


def chosen(names: Sequence[str]) -> list[Recipe]:
    """The rows of these names, each once.

    Raises:
        OptionError: no name at all, one that is not in the table, or none that this package can run.
        DiffutronError: what one is made with is not installed.
    """
    for name in names:
        if name not in RECIPES:
            raise OptionError(f"variant {name!r}: there are {', '.join(RECIPES)}; choose among them")
    if not names:
        raise OptionError(f"no variant: there are {', '.join(RECIPES)}; choose at least one")
    recipes = [RECIPES[name] for name in dict.fromkeys(names)]
    if all(recipe.foreign for recipe in recipes):
        raise OptionError(f"variant {PLAIN} alone: nothing here generates from it; choose fp32, int8 or fp16 besides")
    for recipe in recipes:
        recipe.require()
    return recipes
