"""conformance.json: what a bundle did where it was made, for hosts in any language to be checked against.

It holds texts with their ids and back (`tokens`), prompts (`chats`), hashes of the uniform (`uniforms`) and whole
generations, step by step (`generations`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleFileError, InputError, OptionError
from diffutron_ort.files import Fields, parse_object
from diffutron_ort.generation import Generation
from diffutron_ort.integrity import read_checked
from diffutron_ort.manifest import Bundle
from diffutron_ort.model import Diffutron
from diffutron_ort.prompt import render_chat
from diffutron_ort.sampling import Ids, uniform_hash
from diffutron_ort.tokens import Tokenizer

CONFORMANCE = "conformance.json"
MOST_CASES = 1000  # of each kind
MOST_LETTERS = 100_000  # of a text
MOST_HASHES = 2**17


@dataclass(frozen=True)
class Case:
    """A generation.

    Attributes:
        variant: Which graph made it.
        exact: Whether float64 takes the same steps, so that every host should. Otherwise it is judged together with
            the others of its variant, by the share of their tokens that are the same.
        prompt: What a user said.
        template: Whether it was put into the chat template.
        options: Those in which it differs from the package's defaults, at least.
        prompt_ids: The canvas before the masks.
        steps: What each step committed: `positions` in the canvas, and `tokens`.
        text: The answer.
    """

    variant: str
    exact: bool
    prompt: str
    template: bool
    options: Mapping[str, Any]
    prompt_ids: Sequence[int] = ()
    steps: Sequence[Mapping[str, Sequence[int]]] = ()
    text: str = ""

    @property
    def config(self) -> GenerationConfig:
        """The options, whole; the bundle's own have no part in it."""
        return GenerationConfig(**self.options)

    def canvas(self, mask: int) -> Ids:
        """Return the canvas after the last step, int64 [length]: what no step committed is still the mask."""
        ids = np.full(len(self.prompt_ids) + self.config.max_new_tokens, mask, np.int64)
        ids[: len(self.prompt_ids)] = self.prompt_ids
        for step in self.steps:
            ids[step["positions"]] = step["tokens"]
        return ids


class Text(NamedTuple):
    """A text, its ids, and what they decode to."""

    text: str
    ids: list[int]
    decoded: str


class Chat(NamedTuple):
    """Messages, and the prompt that they become."""

    messages: Sequence[Mapping[str, str]]
    prompt: str


class Hashes(NamedTuple):
    """Where uniforms are drawn, and the hashes of the first positions there."""

    place: tuple[int, int, int, int]  # seed, stream, block, step
    hashes: list[int]


class Pack(NamedTuple):
    """What a conformance.json holds."""

    tokens: list[Text]
    chats: list[Chat]
    uniforms: list[Hashes]
    generations: list[Case]


def answered(case: Case, model: Diffutron) -> Case:
    """Return the case with what the loop makes of its question.

    Raises:
        ContextError: It is too long for the model.
    """
    steps = list(model.stream(case.prompt, template=case.template, **asdict(case.config)))
    last = steps[-1]
    committed = [{"positions": s.positions.tolist(), "tokens": s.ids[s.positions].tolist()} for s in steps]
    return replace(case, prompt_ids=last.ids[: last.start].tolist(), steps=committed, text=last.text)


def read_pack(bundle: Bundle) -> Pack:
    """Return a bundle's conformance.json.

    Raises:
        BundleFileError: It is missing, or the manifest does not list it.
        BundleError: It is not what the manifest says, or says something that has no meaning.
    """
    path = bundle.folder / CONFORMANCE
    if CONFORMANCE not in bundle.files:
        raise BundleFileError(f"{path} is not among the files of the manifest: export the model again")
    content = parse_object(read_checked(bundle, CONFORMANCE), str(path))
    return Pack(
        [_text(row, bundle) for row in _rows(content, "tokens")],
        [_chat(row) for row in _rows(content, "chats")],
        [_hashes(row) for row in _rows(content, "uniforms")],
        [_case(row, bundle) for row in _rows(content, "generations")],
    )


def _rows(content: Fields, name: str) -> list[Fields]:
    rows = content.rows(name)
    if len(rows) > MOST_CASES:
        raise content.refused(f": {name} holds {len(rows)} cases, at most {MOST_CASES} are read")
    return rows


def _text(row: Fields, bundle: Bundle) -> Text:
    ids = row.integers("ids", 0, bundle.vocab_size - 1)
    return Text(row.text("text", MOST_LETTERS), ids, row.text("decoded", MOST_LETTERS))


def _chat(row: Fields) -> Chat:
    messages = [{name: message.text(name) for name in ("role", "content")} for message in row.rows("messages")]
    return Chat(messages, row.text("prompt", MOST_LETTERS))


def _hashes(row: Fields) -> Hashes:
    seed, stream = row.integer("seed", 0, 2**64 - 1), row.integer("stream", 0, 2)
    block, step = (row.integer(name, 0, 2**32 - 1) for name in ("block", "step"))
    hashes = row.integers("hashes", 0, 2**32 - 1)
    if len(hashes) > MOST_HASHES:
        raise row.wrong("hashes", f"at most {MOST_HASHES} hashes")
    return Hashes((seed, stream, block, step), hashes)


def _case(row: Fields, bundle: Bundle) -> Case:
    case = Case(
        variant=row.text("variant"),
        exact=row.boolean("exact"),
        prompt=row.text("prompt", MOST_LETTERS),
        template=row.boolean("template"),
        options=dict(row.fields("options").values),
        prompt_ids=row.integers("prompt_ids", 0, bundle.vocab_size - 1),
        text=row.text("text", MOST_LETTERS),
    )
    try:
        length = len(case.prompt_ids) + case.config.max_new_tokens
    except (OptionError, TypeError) as error:  # TypeError: an option of another name
        raise row.refused(f": options: {str(error)[:300]}") from error
    if length > bundle.context_length:
        raise row.refused(f" has {length} tokens, the model's context is {bundle.context_length}")
    return replace(case, steps=[_step(step, length, bundle) for step in row.rows("steps")])


def _step(row: Fields, length: int, bundle: Bundle) -> dict[str, list[int]]:
    positions = row.integers("positions", 0, length - 1)
    tokens = row.integers("tokens", 0, bundle.vocab_size - 1)
    if len(positions) != len(tokens):
        raise row.wrong("tokens", f"{len(positions)} tokens, one for each position")
    return {"positions": positions, "tokens": tokens}


def wrong_tokens(texts: Sequence[Text], tokenizer: Tokenizer) -> list[str]:
    """Return a message for each text whose ids differ, or come back as another text."""
    wrong = []
    for case in texts:
        ids, text = tokenizer.encode(case.text), tokenizer.decode(case.ids)
        if ids != case.ids:
            wrong.append(f"{case.text[:40]!r} has the ids {ids[:12]}, not {case.ids[:12]}")
        if text != case.decoded:
            wrong.append(f"{case.ids[:12]} decode to {text[:40]!r}, not {case.decoded[:40]!r}")
    return wrong


def wrong_chats(chats: Sequence[Chat], template: Mapping[str, str]) -> list[str]:
    """Return a message for each chat that is rendered as another prompt."""
    rendered = [(_rendered(chat, template), chat.prompt) for chat in chats]
    return [f"the prompt is {found!r}, not {expected!r}" for found, expected in rendered if found != expected]


def _rendered(chat: Chat, template: Mapping[str, str]) -> str:
    try:
        return render_chat(chat.messages, template)
    except InputError as error:
        return f"refused: {error}"


def wrong_uniforms(uniforms: Sequence[Hashes]) -> list[str]:
    """Return a message for each place whose uniforms have other hashes."""
    wrong = []
    for (seed, stream, block, step), hashes in uniforms:
        found = uniform_hash(seed, stream, block, step, np.arange(len(hashes))).tolist()
        if found != hashes:
            wrong.append(f"at seed {seed}, stream {stream}, block {block}, step {step}: {found[:8]}, not {hashes[:8]}")
    return wrong


def wrong_steps(case: Case, model: Diffutron) -> tuple[list[str], float]:
    """Return messages on how the loop differs from a case, and the share of tokens that are the same."""
    found = answered(case, model)
    if list(found.prompt_ids) != list(case.prompt_ids):
        ids = f"{list(found.prompt_ids)[:12]}, not {list(case.prompt_ids)[:12]}"
        return [f"{case.prompt[:40]!r} has the ids {ids}"], 0.0
    wrong = _different_steps(found.steps, case.steps)
    if found.text != case.text:
        wrong.append(f"the text is {found.text!r}, not {case.text!r}")
    mask = model.bundle.special.mask
    same = (found.canvas(mask) == case.canvas(mask))[len(case.prompt_ids) :]
    return [f"{case.prompt[:40]!r}: {text}" for text in wrong], float(same.mean())


def _different_steps(found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a message on the first step that differs, and one if there is another number of them."""
    wrong = []
    pairs = enumerate(zip(found, expected, strict=False))
    if differing := next(((i, a, b) for i, (a, b) in pairs if a != b), None):
        number, here, there = differing
        wrong.append(f"step {number + 1} commits {_commits(here)}, not {_commits(there)}")
    if len(found) != len(expected):
        wrong.append(f"it takes {len(found)} steps, not {len(expected)}")
    return wrong


def _commits(step: Mapping[str, Sequence[int]]) -> str:
    pairs = list(zip(step["positions"], step["tokens"], strict=True))
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return ", ".join(f"{token} at {position}" for position, token in pairs[:4]) + more


def wrong_answer(case: Case, generation: Generation, model: Diffutron) -> tuple[list[str], float]:
    """Return the same of the graph of the whole generation, as far as the answer goes."""
    found = generation(case.prompt_ids, case.config)
    start, end = len(case.prompt_ids), len(case.prompt_ids) + found.answer_length
    here, there = found.ids[start:end], case.canvas(model.bundle.special.mask)[start:end]
    text = model.answer(found.ids, start, case.config, case.template)
    wrong = []
    if (differing := np.flatnonzero(here != there)).size:
        first = int(differing[0])
        wrong.append(
            f"{differing.size} of {here.size} tokens of the answer differ, at {start + first} it has {here[first]}, "
            f"not {there[first]}"
        )
    if found.steps_taken != len(case.steps):
        wrong.append(f"it takes {found.steps_taken} steps, not {len(case.steps)}")
    if text != case.text:
        wrong.append(f"the text is {text!r}, not {case.text!r}")
    share = 1 - differing.size / here.size if here.size else 1.0
    return [f"{case.prompt[:40]!r}: {text}" for text in wrong], share
