"""conformance.json: what a bundle did where it was made, for hosts in any language to be checked against.

It holds texts with their ids and back (`tokens`), prompts (`chats`), hashes of the uniform (`uniforms`) and whole
generations, step by step (`generations`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from diffutron_ort.bundle import Bundle
from diffutron_ort.config import GenerationConfig
from diffutron_ort.errors import BundleError, BundleFileError
from diffutron_ort.generation import Generation
from diffutron_ort.model import Diffutron
from diffutron_ort.prompt import render_chat
from diffutron_ort.sampling import Ids, uniform_hash
from diffutron_ort.tokens import Tokenizer

CONFORMANCE = "conformance.json"


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

    @property
    def canvas(self) -> Ids:
        """The canvas after the last step, int64 [length]."""
        ids = np.full(len(self.prompt_ids) + self.config.max_new_tokens, -1, np.int64)
        ids[: len(self.prompt_ids)] = self.prompt_ids
        for step in self.steps:
            ids[step["positions"]] = step["tokens"]
        return ids


def answered(case: Case, model: Diffutron) -> Case:
    """Return the case with what the loop makes of its question.

    Raises:
        ContextError: It is too long for the model.
    """
    steps = list(model.stream(case.prompt, template=case.template, **asdict(case.config)))
    last = steps[-1]
    committed = [{"positions": s.positions.tolist(), "tokens": s.ids[s.positions].tolist()} for s in steps]
    return replace(case, prompt_ids=last.ids[: last.start].tolist(), steps=committed, text=last.text)


def read_cases(bundle: Bundle) -> tuple[dict[str, Any], list[Case]]:
    """Return a bundle's conformance.json, and its generations as cases.

    Raises:
        BundleError: It is missing or malformed.
    """
    path = bundle.folder / CONFORMANCE
    try:
        content = json.loads(path.read_text("utf-8"))
        return content, [Case(**{f.name: case[f.name] for f in fields(Case)}) for case in content["generations"]]
    except FileNotFoundError as error:
        raise BundleFileError(f"{path} is missing: export the model again") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path} is malformed: {type(error).__name__}: {error}; export the model again") from error


def wrong_tokens(content: Mapping[str, Any], tokenizer: Tokenizer) -> list[str]:
    """Return in words which texts have other ids here, or come back as other texts."""
    wrong = []
    for case in content["tokens"]:
        ids, text = tokenizer.encode(case["text"]), tokenizer.decode(case["ids"])
        if ids != case["ids"]:
            wrong.append(f"{case['text'][:40]!r} has the ids {ids[:12]}, not {case['ids'][:12]}")
        if text != case["decoded"]:
            wrong.append(f"{case['ids'][:12]} decode to {text[:40]!r}, not {case['decoded'][:40]!r}")
    return wrong


def wrong_chats(content: Mapping[str, Any], template: Mapping[str, str]) -> list[str]:
    """Return in words which messages are rendered as other prompts."""
    rendered = [(render_chat(case["messages"], template), case["prompt"]) for case in content["chats"]]
    return [f"the prompt is {found!r}, not {expected!r}" for found, expected in rendered if found != expected]


def wrong_uniforms(content: Mapping[str, Any]) -> list[str]:
    """Return in words which uniforms have other hashes."""
    wrong = []
    for case in content["uniforms"]:
        seed, stream, block, step = (case[name] for name in ("seed", "stream", "block", "step"))
        found = uniform_hash(seed, stream, block, step, np.arange(len(case["hashes"]))).tolist()
        if found != case["hashes"]:
            wrong.append(f"at seed {seed}, stream {stream}, block {block}, step {step}: {found}, not {case['hashes']}")
    return wrong


def wrong_steps(case: Case, model: Diffutron) -> tuple[list[str], float]:
    """Return in words how the loop differs from a case, and the share of tokens that are the same."""
    found = answered(case, model)
    wrong = []
    if list(found.prompt_ids) != list(case.prompt_ids):
        return [f"{case.prompt!r} has the ids {found.prompt_ids}, not {case.prompt_ids}"], 0.0
    pairs = zip(found.steps, case.steps, strict=False)
    differs = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found.steps), len(case.steps)))
    if found.steps != case.steps:
        wrong.append(f"{case.prompt!r}: {len(found.steps)} steps, not {len(case.steps)}, from step {differs} on others")
    if found.text != case.text:
        wrong.append(f"{case.prompt!r}: the text is {found.text!r}, not {case.text!r}")
    return wrong, float((found.canvas == case.canvas)[len(case.prompt_ids) :].mean())


def wrong_answer(case: Case, generation: Generation, model: Diffutron) -> tuple[list[str], float]:
    """Return the same of the graph of the whole generation, as far as the answer goes."""
    found = generation(case.prompt_ids, case.config)
    start, end = len(case.prompt_ids), len(case.prompt_ids) + found.answer_length
    same = found.ids[start:end] == case.canvas[start:end]
    text = model.answer(found.ids, start, case.config, case.template)
    wrong = []
    if not same.all() or found.steps_taken != len(case.steps):
        wrong.append(f"{case.prompt!r}: {found.steps_taken} steps, not {len(case.steps)}, or other tokens")
    if text != case.text:
        wrong.append(f"{case.prompt!r}: the text is {text!r}, not {case.text!r}")
    return wrong, float(same.mean()) if same.size else 1.0
