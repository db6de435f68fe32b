"""The variants as rows of a table: all that is known of a variant's name is in its row. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass

from diffutron_ort.bundle.manifest import PLAIN


@dataclass(frozen=True)
class Requirement:
    """A module that the extra `[export]` does not bring.

    Attributes:
        module: Its full name.
        tool: What it is, for the message that it is missing.
        install: How to install it, for the same message.
    """

    module: str
    tool: str
    install: str


@dataclass(frozen=True)
class Recipe:
    """How one variant is made, judged and listed.

    Attributes:
        name: The variant's name on the command line and in the manifest.
        stem: The graph is onnx/<stem>.onnx, its weights are onnx/<stem>.onnx.data, and the graph of the whole
            generation, which shares them, has "generate" for "denoiser" in its name.
        writer: The function that writes and verifies the variant and returns its fidelity card, as "module:function"
            of this package. It takes a `variants.Job`.
        exact: Whether the variant is judged by the error of its logits, as float32 is; a quantized one is judged by
            its agreement with float32.
        default: Whether the variant is exported where none is asked for.
        batch_invariant: Whether a sequence's predictions are independent of what else is in the pass. If not, every
            sequence has to run alone and unpadded.
        providers: The execution providers that the variant runs on; empty means all.
        shares: The name of the variant whose weights the graph reads; empty if it has its own. That variant is written
            first, and exported with it; the graph of the whole generation, of one sequence, is that variant's.
        takes_exclude: Whether the option `exclude` can keep matrices in float32.
        third_party: Whether the graph is for other programs, and no denoiser. Its weights are where `plain.weights`
            says.
        purpose: What the graph is for, where the name does not say.
        requirement: What the writer needs beyond the extra `[export]`.
    """

    name: str
    stem: str
    writer: str
    exact: bool
    default: bool = False
    batch_invariant: bool = True
    providers: tuple[str, ...] = ()
    shares: str = ""
    takes_exclude: bool = False
    third_party: bool = False
    purpose: str = ""
    requirement: Requirement | None = None

    @property
    def graph(self) -> str:
        """The path of the graph in the bundle."""
        return f"onnx/{self.stem}.onnx"

    @property
    def generation(self) -> str:
        """The path of the graph of the whole generation, which reads the same weights."""
        return f"onnx/{self.stem.replace('denoiser', 'generate')}.onnx"

    @property
    def weights(self) -> str:
        """The path of the graph's weights."""
        return RECIPES[self.shares].weights if self.shares else f"{self.graph}.data"


OPTIMUM = Requirement(
    module="optimum.exporters.onnx",
    tool="optimum's exporter",
    install="pip install 'diffutron-ort[cpu,optimum]', in an environment of its own, since optimum holds transformers "
    "back",
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", "denoiser", "variants:write_fp32", exact=True, default=True),
        Recipe(
            "int8",
            "denoiser_int8",
            "variants:write_int8",
            exact=False,
            batch_invariant=False,  # activations have one scale a pass: whatever shares the pass changes it
            providers=("cpu",),  # others have no kernels for the 8-bit products
            takes_exclude=True,
        ),
        Recipe(
            "int8-batch",
            "denoiser_int8_batch",
            "variants:write_int8_batch",
            exact=False,
            providers=("cpu",),
            shares="int8",
            purpose="int8 for many sequences at a time, with the same weights: up to a tenth slower for one",
        ),
        Recipe("fp16", "denoiser_fp16", "variants:write_fp16", exact=False),
        Recipe(
            PLAIN,
            "model",
            "plain:write_plain",
            exact=True,
            third_party=True,
            purpose="the graph that optimum and transformers.js load",
            requirement=OPTIMUM,
        ),
    )
}
"""By name, in the order in which a bundle lists them."""

DEFAULTS = tuple(recipe.name for recipe in RECIPES.values() if recipe.default)


def runnable(but: str = "") -> str:
    """Return the names of the variants that run here, except one, as in "fp32, int8 or fp16"."""
    *names, last = (recipe.name for recipe in RECIPES.values() if not recipe.third_party and recipe.name != but)
    return f"{', '.join(names)} or {last}" if names else last
