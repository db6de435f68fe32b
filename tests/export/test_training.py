"""Training watches answers end as the runtime ends them."""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

NANO = Path(__file__).parents[2] / "models" / "nano"
sys.path.append(str(NANO))

import sampler  # noqa: E402
from batches import SPAN  # noqa: E402
from tokenizer import PAD, build  # noqa: E402

from tests.fakes import scripted  # noqa: E402


@pytest.mark.parametrize(
    "said",
    ["on yedi\n[/Answer]\n\n", "on[/Answer]", "on<pad>yedi", "on<eos>\n[/Answer]", "on[/Answer] yedi\n[/Answer]", ""],
)
def test_answers_end_as_the_runtimes_do(model, said):
    built = build()
    span = built.encode(said, add_special_tokens=False).ids
    span += [PAD] * (SPAN - len(span))
    copy, says = scripted(model, "")
    says.tokens = [*says.tokens[: len(says.tokens) - SPAN], *span]
    passes = []

    def network(canvas, wanted):
        passes.append(len(canvas))
        place = wanted.nonzero()[:, 1]
        logits = torch.zeros(len(place), built.get_vocab_size())
        logits[torch.arange(len(place)), torch.tensor(says.tokens)[place]] = 15 - place / 64  # from left to right
        return logits

    assert sampler.answer(network, built, ["x"]) == [copy.generate("x")]
    assert len(passes) == says.passes
