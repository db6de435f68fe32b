"""Write what Python says, as JSON, for the tests in JavaScript to compare with.

python expected.py tokens|options|answers|texts|trajectories|stops OUT.json
"""

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

from diffutron_ort import Diffutron, Step
from diffutron_ort.config import PRESETS
from diffutron_ort.errors import OptionError
from diffutron_ort.text.tokenizer import Tokenizer

NANO = Path(__file__).parents[2] / "models" / "nano"

CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<unused7>", "[@BOS@]")
WRITTEN = (
    "",
    " ",
    "Merhaba dünya",
    "İstanbul'da ışık ılık, İĞNE iğne: Isı, ISI, isi, i̇",
    "[Question]\nKaç?\n[/Question]\n\n[Answer]\n",
    "satır\n\n\nsatır\tsekme\t\tsekme\r\n son  ",
    "iki  boşluk,   üç    dört",
    "\n" * 7 + " bir" + "\t" * 6,
    "😀 👩‍👩‍👧 中文 \x00 \x1b[31m \x7f\u0085\u2028\ufeff",
    "\ufeffbaşta",
    "\ufffd ▁ ▁▁a <0x41> <0xff> <0x4>",
    "a <mask> b<eos> <s></s>" + "".join(CONTROL),
    "On iki artı beş kaç eder? " * 200,
    "ü" * 3000,
)
LETTERS = "abcçdefgğhıijklmnoöprsştuüvyzABCÇIİÜéß0123456789.,:;?!'\"()[]/"
ALPHABET = (*LETTERS, *("  ", " ", " ", "\n", "\t", "\n\n", "▁"))
UNUSUAL = "😀中\x00\x1f\u0085\ufeff\u0301\U0010ffff"
STRANGE = (*CONTROL, *UNUSUAL, "[/Answer]", "<0x0A>", "<s>")
"""What random texts are made of, the strange parts less often."""


def texts(rng: Random) -> Iterator[str]:
    """Texts of random parts, and of the model's own pieces."""
    pieces = [piece.replace("▁", " ") for piece in json.loads((NANO / "tokenizer.json").read_text())["model"]["vocab"]]
    for _ in range(1500):
        parts = (rng.choice(rng.choices((ALPHABET, pieces, STRANGE), (6, 3, 1))[0]) for _ in range(rng.randint(1, 60)))
        yield "".join(parts)


def tokens() -> dict[str, Any]:
    """Texts with their ids and back, ids with their text, and all again with a tokenizer that is harder to imitate."""
    tokenizer, rng = nano().tokenizer, Random(4)  # noqa: S311  # not for secrets
    given = [*WRITTEN, *texts(rng)]
    changed = harder(json.loads((NANO / "tokenizer.json").read_text("utf-8")))
    size = nano().bundle.vocab_size + 3
    other = Tokenizer(json.dumps(changed).encode(), "tokenizer.json", size, nano().bundle.special)
    return {
        "own": {"encoded": [encoded(tokenizer, text) for text in given], "decoded": decoded(tokenizer, rng)},
        "changed": {
            "specification": changed,
            "vocab_size": size,
            "encoded": [encoded(other, text) for text in given],
            "decoded": decoded(other, rng),
        },
        "others": {name: unlike(parts) for name, parts in OTHERS.items()},
        "pieces": [tokenizer.piece(token) for token in range(nano().bundle.vocab_size)],
    }


def harder(specification: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer with merges across spaces, a tag as a token, and control tokens that say they are none."""
    added, model = specification["added_tokens"], specification["model"]
    size = nano().bundle.vocab_size
    added.append(added[-1] | {"id": size + 2, "content": "<s>"})
    model["vocab"] |= {"▁▁": size, "▁▁▁": size + 1} | {token["content"]: token["id"] for token in added}
    model["merges"] = [["▁", "▁"], ["▁▁", "▁"], *model["merges"]]
    for token in added:
        token["special"] = False
    return specification


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
DECODERS = ({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"})
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
OTHERS: dict[str, dict[str, Any]] = {
    "mmBERT's": {},
    "Strip": {"decoder": {"type": "Sequence", "decoders": [*DECODERS, STRIP]}},
    "Metaspace": {"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, METASPACE]}},
    "no prefix": {"pre_tokenizer": METASPACE | {"prepend_scheme": "never"}},
    "Llama's": {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, REPLACE]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [*DECODERS, STRIP]},
    },
    "saved states": {
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {},
        },
    },
}
"""Parts of a tokenizer.json in which another can differ."""
TAGS = ("<b>", "</b>", "<sub>", "</sub>")


def unlike(parts: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer with other parts and HTML tags, as mmBERT's has, and what it makes of texts and ids."""
    specification = json.loads((NANO / "tokenizer.json").read_text("utf-8")) | parts
    added, size = specification["added_tokens"], nano().bundle.vocab_size
    added += [added[-1] | {"id": size + i, "content": tag} for i, tag in enumerate(TAGS)]
    if "post_processor" in parts:
        specification["model"]["dropout"] = 0.9
    tokenizer = Tokenizer(json.dumps(specification).encode(), "tokenizer.json", size + len(TAGS), nano().bundle.special)
    rng = Random(5)  # noqa: S311  # not for secrets
    texts = ["".join(rng.choices((*ALPHABET, *TAGS, "😀", "<mask>"), k=rng.randint(0, 30))) for _ in range(300)]
    ids = [rng.choices((*range(2000, size + len(TAGS)), *range(0, 600, 7)), k=rng.randint(0, 12)) for _ in range(300)]
    cases = [{"ids": i, "previous": p, "text": tokenizer.decode(i, p)} for i in ids for p in (None, size, 300)]
    given = ["H<sub>2</sub>O", "<b>kalın</b>", *WRITTEN, *texts]
    return {
        "specification": specification,
        "vocab_size": size + len(TAGS),
        "encoded": [encoded(tokenizer, text) for text in given],
        "decoded": cases,
    }


def encoded(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """A text, its ids, and their text."""
    ids = tokenizer.encode(text)
    return {"text": text, "ids": ids, "back": tokenizer.decode(ids)}


def decoded(tokenizer: Tokenizer, rng: Random) -> list[dict[str, Any]]:
    """Random ids, many of them bytes, after a random one or none, and their text."""
    cases = []
    for _ in range(1500):
        ranges = rng.choices(((0, 2023), (0, 7), (7, 263), (2000, 2023)), (5, 1, 3, 2), k=rng.randint(0, 30))
        ids = [rng.randrange(*bounds) for bounds in ranges]
        previous = rng.choice((None, rng.randrange(2000, 2023)))
        cases.append({"ids": ids, "previous": previous, "text": tokenizer.decode(ids, previous)})
    return cases


REFUSED: tuple[dict[str, Any], ...] = (
    {"step": 3},
    {"preset": "Short"},
    {"steps": 0},
    {"steps": 2**16 + 1},
    {"steps": 1.5},
    {"steps": True},
    {"steps": "3"},
    {"steps": None},
    {"max_new_tokens": 0},
    {"max_new_tokens": 2**31},
    {"block_length": -1},
    {"temperature": -0.1},
    {"temperature": 0.009},
    {"temperature": 1001},
    {"temperature": "1"},
    {"temperature": False},
    {"repetition_penalty": 0},
    {"repetition_penalty": [1]},
    {"remasking": "Random"},
    {"schedule": "quadratic"},
    {"cache": None},
    {"commit": "most"},
    {"commit": "factor", "remasking": "random"},
    {"commit_factor": -1},
    {"commit_entropy": "much"},
    {"refresh_steps": -1},
    {"refresh_entropy": -0.5},
    {"seed": -1},
    {"seed": 2**64},
    {"seed": 0.5},
    {"seed": [3]},
    {"seed": {}},
    {"seed": ""},
    {"seed": True},
    {"early_end": 1},
    {"stop": [""]},
    {"stop": [3]},
    {"stop": 3},
    {"stop": "\ud800"},
    {"penalty_exempt": 3},
    {"penalty_exempt": "3"},
    {"penalty_exempt": [-1]},
    {"penalty_exempt": [5000]},
    {"suppress_tokens": [5000]},
    {"cfg_scale": -1},
)


TYPED = (
    "On iki artı beş kaç eder?",
    unicodedata.normalize("NFD", "On iki artı beş kaç eder? İğde, ışık, ÖÜ, â"),
    "I\u0307stanbul i\u0307 ı\u0307 \u212bngstro\u0308m",
    " \x1c kag\u0306ıt \u2003",
    "a" + "\u0301\u0323" * 20,
)
"""As a keyboard, a file system or a copied text may have it."""


def options() -> dict[str, Any]:
    """The options of every preset, for the embedded model, and what is refused."""
    presets = {name: asdict(nano().config(name)) for name in PRESETS}
    own = {"steps": 16, "max_new_tokens": 20, "temperature": 0.5, "refresh_steps": 9}
    other = Diffutron(replace(nano().bundle, options=own), nano().tokenizer, nano().forward)
    for given in REFUSED:
        rest = {name: value for name, value in given.items() if name != "preset"}
        with suppress(OptionError):
            nano().config(given.get("preset"), **rest)
            raise AssertionError(f"{given} is allowed")
    return {
        "presets": presets,
        "other": {"own": own, "presets": {name: asdict(other.config(name)) for name in PRESETS}},
        "typed": [{"text": text, "ids": nano().sequence(text).canvas.ids.tolist()} for text in TYPED],
        "refused": [{k: v if k != "seed" else written(v) for k, v in o.items()} for o in REFUSED],
    }


def written(seed: object) -> object:
    """A seed that is an integer, in digits: JSON's numbers cannot hold all of them in JavaScript."""
    return str(seed) if type(seed) is int else seed


def settings() -> list[dict[str, Any]]:
    """Temperatures 0 and 0.1 with three seeds each."""
    return [{"temperature": t, "seed": seed} for t, seed in product((0, 0.1), (0, 1, 2**64 - 1))]


def questions() -> list[str]:
    """Held-out ones."""
    sys.path.insert(0, str(NANO))
    from questions import questions

    return [exercise.question for exercise in islice(questions(4, "held-out"), 20)]


def answers() -> list[dict[str, Any]]:
    """Questions with the steps of their answers."""
    return [generation(question, **options) for question in questions() for options in settings()]


def texts_of_answers() -> list[dict[str, Any]]:
    """Questions with their answers, which come in batches, and so sooner."""
    asked = questions()
    return [
        {"prompt": prompt, "options": options | {"seed": written(options["seed"])}, "text": text}
        for options in settings()
        for prompt, text in zip(asked, nano().generate(asked, **options), strict=True)
    ]


LIST = "Ters sırala: kitap, deniz, okul, elma"
WILD = {"temperature": 3, "repetition_penalty": 1.2}
"""So hot that draws fall beyond the 64 candidates."""

TRAJECTORIES: tuple[dict[str, Any], ...] = (
    {"preset": "fast"},
    {"preset": "fast", "temperature": 0.7, "refresh_steps": 0, "block_length": 16, "seed": 5},
    {"preset": "fast", "temperature": 1, "refresh_entropy": 0.5, "commit": "entropy", "commit_entropy": 0.5},
    {"preset": "fast", "commit": "schedule", "refresh_steps": 3, "temperature": 1, "block_length": 16, "steps": 32},
    {"cache": "block", "refresh_entropy": 0.5, "temperature": 1, "block_length": 16, "steps": 32, "early_end": False},
    {"preset": "fast", "block_length": 8, "steps": 4, "early_end": False, **WILD},
    {"preset": "long", "max_new_tokens": 100, "early_end": False, "temperature": 1},
    {"temperature": 1, "early_end": False, "seed": 3},
    {"early_end": False, "steps": 7, **WILD},
    {"early_end": False, "steps": 40, "block_length": 10, "max_new_tokens": 33, **WILD},
    {"early_end": False, "steps": 24, "block_length": 24, "seed": 2**53 + 1, "penalty_exempt": [5, 20], **WILD},
    {"template": False, "repetition_penalty": 1.5, "temperature": 0.5, "steps": 16, "early_end": False},
    {"template": False, "stop": ["e", "bir"], "temperature": 1},
    {"steps": 7, **WILD},
    {"steps": 40, "block_length": 10, "max_new_tokens": 33, "seed": 2**63 + 11, **WILD},
    {"preset": "long", "steps": 16, "stop": ["el", "ma"], "temperature": 2},
    {"template": False, "steps": 20, "repetition_penalty": 0.8, "temperature": 3},
    {"remasking": "random", "temperature": 0.7, "seed": 9, "steps": 32},
    {"commit": "factor", "commit_factor": 1.0, "repetition_penalty": 1.3},
    {"suppress_tokens": [1895, 1939], "steps": 16},
    {"early_end": False, "steps": 7, "suppress_tokens": [*range(1700, 1720)], **WILD},
    {"block_length": 64, "steps": 1},
)


def trajectories() -> list[dict[str, Any]]:
    """Whole generations with options of every kind."""
    return [generation(LIST, **options) for options in TRAJECTORIES]


STOPS = (
    *([" elma"], [" on"], ["on"], [" "], ["\n"], [","], ["e"], ["okul", "deniz,"], ["yedi\n[/Answer]"], ["/Ans"]),
    *(["i\n["], ["p\n["], ["\n", "z"], ["\n[/Answer]"], ["[/Answer]"], ["]"], ["kitap\n", "i "], ["p", "ap\n[/A"]),
)
"""Many of them begin with a space, or overlap `[/Answer]`."""
STOPPED: tuple[tuple[str, dict[str, Any]], ...] = (
    (LIST, {"max_new_tokens": 24, "steps": 12, "block_length": 12}),
    ("On iki artı beş kaç eder?", {"template": False, "max_new_tokens": 16, "steps": 8, "block_length": 16}),
)


def stops() -> list[dict[str, Any]]:
    """Answers cut at stop strings; whether a generation ends early does not change them."""
    cases = []
    for prompt, options in STOPPED:
        for stop in STOPS:
            text = nano().generate(prompt, stop=stop, early_end=False, **options)
            cases.append({"prompt": prompt, "options": options, "stop": stop, "text": text})
    return cases


def generation(prompt: str, **options: Any) -> dict[str, Any]:
    """A prompt, options, every step, and the answer."""
    steps = [said(step) for step in nano().stream(prompt, **options)]
    options["seed"] = written(options.get("seed", 0))
    return {"prompt": prompt, "options": options, "steps": steps, "text": steps[-1]["text"]}


def said(step: Step) -> dict[str, Any]:
    """A step with the names that it has in JavaScript."""
    return {
        "index": step.index,
        "block": step.block,
        "positions": step.positions.tolist(),
        "tokens": step.ids[step.positions].tolist(),
        "confidence": step.confidence.tolist(),
        "ids": step.ids.tolist(),
        "start": step.start,
        "masksLeft": step.masks_left,
        "numComputed": step.num_computed,
        "numPredicted": step.num_predicted,
        "text": step.text,
        "settled": step.settled,
    }


@cache
def nano() -> Diffutron:
    """The embedded model, with one thread: these run side by side with others, and waiting threads would spin."""
    return Diffutron.from_pretrained(NANO, variant="fp32", threads=1)


if __name__ == "__main__":
    section, out = sys.argv[1:]
    said_by_python = {
        "tokens": tokens,
        "options": options,
        "answers": answers,
        "texts": texts_of_answers,
        "trajectories": trajectories,
        "stops": stops,
    }[section]()
    Path(out).write_text(json.dumps(said_by_python), "utf-8")
