"""What the stop rule says of canvases of every kind, for other languages: stopping.json.

python -m tests.text.stop_vectors writes it
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.text.stopping import StopRule
from diffutron_ort.text.tokenizer import Tokenizer

FILE = Path(__file__).with_name("stopping.json")

BUNDLE = load_bundle()
SPECIAL = BUNDLE.special
TOKENIZER = Tokenizer((BUNDLE.folder / "tokenizer.json").read_bytes(), "tokenizer.json", BUNDLE.vocab_size, SPECIAL)
ID = {TOKENIZER.piece(token): token for token in range(BUNDLE.vocab_size)}

LETTERS = [ID[piece] for piece in ("z", "e", "l", "▁", "▁b", "\n", "<unk>", "▁[/Answer]", "<pad>")]
LEADS = [ID[f"<0x{byte}>"] for byte in ("41", "20", "C4", "EF", "F0", "FF")]
CONTINUATIONS = [ID[f"<0x{byte}>"] for byte in ("9F", "BF")]  # C4 9F is ğ
TOKENS = [*LETTERS, *LEADS, *CONTINUATIONS]
"""What canvases are made of; "z" is in none of the stop strings, so that one mask can always show."""

STRINGS = [
    *("e", "l", "el", "le", " e", "e ", " ", "  ", "\n", "\n ", " b", "b", "\n\n", "e\n"),
    *("[", "/Ans", "]", " [", "e [", "e\n[", "\n[/Answer]", "[/Answer]", " [/Answer]", "[/Answer]\n", "r]z"),
]
IN_BYTES = ["ğ", "eğ", "A", "Ağ", "\ufffd", "\ufffd\ufffd", "e\ufffd", "A\ufffd", " \ufffd", "\U0001f7df", "\uffff"]

OWN = BUNDLE.stop_sequences
SPELLED = [("[/el]", tuple(ID[piece] for piece in ("▁", "[", "/", "e", "l", "]")))]  # one of several tokens

NESTED = [("[/el]", (ID["▁[/Answer]"],)), (" [/el]b", (*SPELLED[0][1], ID["▁b"]))]  # one that is spelled within another


def vectors() -> list[dict[str, Any]]:
    """Return canvases, by the stop sequences of a bundle, with what is shown of each and whether it is settled."""
    return [
        {"own": [{"text": text, "ids": list(ids)} for text, ids in own], "cases": list(cases(own, seed))}
        for seed, own in enumerate(([], OWN, [*OWN, *SPELLED], NESTED))
    ]


def cases(own: Any, seed: int) -> Iterator[dict[str, Any]]:
    """Yield random canvases of which more is known than a mask at their beginning."""
    rng = Random(seed)
    for _ in range(250):
        start = rng.randrange(3)
        pool = rng.choice((TOKENS, LETTERS, [*LEADS, *CONTINUATIONS], [*TOKENS, *(ids[0] for _, ids in SPELLED)]))
        ids = [9, ID["\n"]][:start] + rng.choices(pool, k=rng.randrange(1, 5))
        ids += rng.choices([*pool, *[SPECIAL.mask] * len(pool)], k=rng.randrange(4))
        if rng.random() < 0.2:
            ids[start:start] = [*SPELLED[0][1]]
        stop = rng.sample([*STRINGS, *IN_BYTES], rng.randrange(4))
        rule = StopRule(TOKENIZER, SPECIAL, own, stop)
        canvas = np.array(ids, np.int64)
        said = {"text": rule.text(canvas, start), "settled": rule.is_settled(canvas, start)}
        said["settled_text"] = rule.settled(canvas, start)
        yield {"ids": ids, "start": start, "stop": stop, **said}


def written(groups: list[dict[str, Any]]) -> str:
    """Return the vectors as JSON with a case a line."""
    lines = [
        f'{{"own": {json.dumps(group["own"])}, "cases": [\n'
        + ",\n".join(json.dumps(case) for case in group["cases"])
        + "\n]}"
        for group in groups
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    FILE.write_text(written(vectors()), "utf-8")
