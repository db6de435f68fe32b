"""conformance.json: results that were recorded when a bundle was exported, to check hosts in any language against.

It holds texts encoded and decoded (`tokens`), rendered prompts (`chats`), hashes of the uniforms (`uniforms`) and whole
generations, step by step (`generations`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from diffutron_ort.bundle.integrity import read_checked
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleFileError, OptionError
from diffutron_ort.files import Fields, parse_object
from diffutron_ort.types import Ids

CONFORMANCE = "conformance.json"
MOST_CASES = 1000  # of each kind
MOST_CHARACTERS = 100_000  # of a text
MOST_HASHES = 2**17


@dataclass(frozen=True)
class Case:
    """A generation.

    Attributes:
        variant: The variant that made it.
        exact: Whether every choice is so clear that rounding cannot change it, so that every host must take the same
            steps. The other cases of a variant are judged together, by their share of equal tokens.
        prompt: The user's text.
        template: Whether the chat template was applied.
        options: The generation options; at least those that differ from the package's defaults.
        prompt_ids: The tokens before the masks.
        steps: For each step, the `positions` in the canvas that it committed, and their `tokens`.
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
        """All options; the bundle's own defaults do not apply."""
        return GenerationConfig(**self.options)

    def canvas(self, mask: int) -> Ids:
        """Return the canvas after the last step, int64 [length]; positions that no step committed hold `mask`."""
        ids = np.full(len(self.prompt_ids) + self.config.max_new_tokens, mask, np.int64)
        ids[: len(self.prompt_ids)] = self.prompt_ids
        for step in self.steps:
            ids[step["positions"]] = step["tokens"]
        return ids


class Text(NamedTuple):
    """A text, its ids, and the text that they decode to."""

    text: str
    ids: list[int]
    decoded: str


class Chat(NamedTuple):
    """Messages, and the prompt that they are rendered as."""

    messages: Sequence[Mapping[str, str]]
    prompt: str


class Hashes(NamedTuple):
    """The hashes of the uniforms at the first positions of one step."""

    place: tuple[int, int, int, int]  # seed, stream, block, step
    hashes: list[int]


class Pack(NamedTuple):
    """The content of a conformance.json."""

    tokens: list[Text]
    chats: list[Chat]
    uniforms: list[Hashes]
    generations: list[Case]


def read_pack(bundle: Bundle) -> Pack:
    """Return a bundle's conformance.json.

    Raises:
        BundleFileError: The file is missing, or the manifest does not list it.
        BundleError: The file does not match the manifest, or a value in it is not allowed.
    """
    path = bundle.folder / CONFORMANCE
    if CONFORMANCE not in bundle.files:
        raise BundleFileError(f"{path} is not listed in the manifest; export the model again")
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
        raise content.refused(f": {name} holds {len(rows)} cases; at most {MOST_CASES} are allowed")
    return rows


def _text(row: Fields, bundle: Bundle) -> Text:
    ids = row.integers("ids", 0, bundle.vocab_size - 1)
    return Text(row.text("text", MOST_CHARACTERS), ids, row.text("decoded", MOST_CHARACTERS))


def _chat(row: Fields) -> Chat:
    messages = [{name: message.text(name) for name in ("role", "content")} for message in row.rows("messages")]
    return Chat(messages, row.text("prompt", MOST_CHARACTERS))


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
        prompt=row.text("prompt", MOST_CHARACTERS),
        template=row.boolean("template"),
        options=dict(row.fields("options").values),
        prompt_ids=row.integers("prompt_ids", 0, bundle.vocab_size - 1),
        text=row.text("text", MOST_CHARACTERS),
    )
    try:
        length = len(case.prompt_ids) + case.config.max_new_tokens
    except (OptionError, TypeError) as error:  # TypeError: an unknown option
        raise row.refused(f": options: {str(error)[:300]}") from error
    if length > bundle.context_length:
        raise row.refused(f" has {length} tokens; the model's context is {bundle.context_length}")
    return replace(case, steps=[_step(step, length, bundle) for step in row.rows("steps")])


def _step(row: Fields, length: int, bundle: Bundle) -> dict[str, list[int]]:
    positions = row.integers("positions", 0, length - 1)
    tokens = row.integers("tokens", 0, bundle.vocab_size - 1)
    if len(positions) != len(tokens):
        raise row.wrong("tokens", f"{len(positions)} tokens, one for each position")
    return {"positions": positions, "tokens": tokens}
