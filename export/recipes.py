"""Variants as rows of a table: a variant to come is a row to add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffutron_ort.errors import OptionError

from .variants import Job, write_fp16, write_fp32, write_int8


@dataclass(frozen=True)
class Recipe:
    """How one variant is made.

    Attributes:
        name: as it is asked for.
        stem: its graph is onnx/<stem>.onnx, its weights are beside it in <stem>.onnx.data.
        write: makes the two files, compares them with the checkpoint, and returns the fidelity card.
        alone: whether what else is in a pass moves a sequence's predictions, so that each has to run alone.
    """

    name: str
    stem: str
    write: Callable[[Job], dict[str, Any]]
    alone: bool = False

    @property
    def graph(self) -> str:
        """The graph's place in the bundle."""
        return f"onnx/{self.stem}.onnx"

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
    )
}


def chosen(names: Sequence[str]) -> list[Recipe]:
    """The rows of these names, each once.

    Raises:
        OptionError: no name at all, or one that is not in the table.
    """
    for name in names:
        if name not in RECIPES:
            raise OptionError(f"variant {name!r}: there are {', '.join(RECIPES)}; choose among them")
    if not names:
        raise OptionError(f"no variant: there are {', '.join(RECIPES)}; choose at least one")
    return [RECIPES[name] for name in dict.fromkeys(names)]
