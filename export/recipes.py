"""Variants as rows of a table: a variant to come is a row to add."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffutron_ort.errors import OptionError

from .graph import write_graph
from .source import Source


@dataclass(frozen=True)
class Recipe:
    """How one variant is made, and how far it may be from the reference.

    Attributes:
        name: as it is asked for.
        stem: its graph is onnx/<stem>.onnx, its weights are beside it in <stem>.onnx.data.
        write: makes the two files from a source, at a path, with provenance.
        max_error: the largest difference of a logit that is allowed, in standard deviations of the logits.
        agreement: the least share of rows with the reference's best token, of those where the reference's margin is
            larger than the largest difference found.
    """

    name: str
    stem: str
    write: Callable[[Source, Path, Mapping[str, str]], None]
    max_error: float
    agreement: float

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
    for recipe in (Recipe(name="fp32", stem="denoiser", write=write_graph, max_error=1e-3, agreement=1.0),)
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
