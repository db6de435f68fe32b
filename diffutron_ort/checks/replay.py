"""Replay the cases of a conformance.json on this machine."""

import time
from collections import abc
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from diffutron_ort.bundle.conformance import Case, Chat, Hashes, Text
from diffutron_ort.errors import InputError
from diffutron_ort.model import Diffutron
from diffutron_ort.runtime.generation import Generation
from diffutron_ort.sampler.engine import run
from diffutron_ort.sampler.random import uniform_hash
from diffutron_ort.sampler.sequence import Sequence, Step
from diffutron_ort.text.chat_template import render_chat
from diffutron_ort.text.tokenizer import Tokenizer


def sequence(case: Case, model: Diffutron) -> Sequence:
    """Return the sequence that takes the steps of a case.

    Raises:
        ContextError: It is too long for the model.
        OptionError: The model's vocabulary does not have an id in the options.
    """
    return model.sequence(case.prompt, template=case.template, **asdict(case.config))


def answered(case: Case, model: Diffutron) -> Case:
    """Return the case with the steps and the text that the loop gives here; errors are those of `sequence`."""
    return completed(case, [step for _, step in run(model.engine, [sequence(case, model)], 1)])


def completed(case: Case, steps: abc.Sequence[Step]) -> Case:
    """Return the case with the steps that were taken, and the text that they came to."""
    last = steps[-1]
    committed = [{"positions": s.positions.tolist(), "tokens": s.ids[s.positions].tolist()} for s in steps]
    return replace(case, prompt_ids=last.ids[: last.start].tolist(), steps=committed, text=last.text)


def wrong_tokens(texts: abc.Sequence[Text], tokenizer: Tokenizer) -> list[str]:
    """Return a message for each text whose ids differ, or come back as another text."""
    wrong = []
    for case in texts:
        ids, text = tokenizer.encode(case.text), tokenizer.decode(case.ids)
        if ids != case.ids:
            wrong.append(f"{case.text[:40]!r} has the ids {ids[:12]}, not {case.ids[:12]}")
        if text != case.decoded:
            wrong.append(f"{case.ids[:12]} decode to {text[:40]!r}, not {case.decoded[:40]!r}")
    return wrong


def wrong_chats(chats: abc.Sequence[Chat], template: Mapping[str, str]) -> list[str]:
    """Return a message for each chat that is rendered as another prompt."""
    rendered = [(_rendered(chat, template), chat.prompt) for chat in chats]
    return [f"the prompt is {found!r}, not {expected!r}" for found, expected in rendered if found != expected]


def _rendered(chat: Chat, template: Mapping[str, str]) -> str:
    try:
        return render_chat(chat.messages, template)
    except InputError as error:
        return f"refused: {error}"


def wrong_uniforms(uniforms: abc.Sequence[Hashes]) -> list[str]:
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


def wrong_start(case: Case, model: Diffutron, seconds: float) -> tuple[list[str], int]:
    """Return messages on how the loop differs from a case in the steps that it takes within `seconds`, and how many."""
    end, taken = time.monotonic() + seconds, []
    for _, step in run(model.engine, [sequence(case, model)], 1):
        taken.append(step)
        if time.monotonic() > end:
            break
    found = completed(case, taken)
    return _different_steps(found.steps, case.steps[: len(taken)]), len(taken)


def _different_steps(found: abc.Sequence[Mapping[str, Any]], expected: abc.Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a message on the first step that differs, and one if there is another number of them."""
    wrong = []
    pairs = enumerate(zip(found, expected, strict=False))
    if differing := next(((i, a, b) for i, (a, b) in pairs if a != b), None):
        number, here, there = differing
        wrong.append(f"step {number + 1} commits {_commits(here)}, not {_commits(there)}")
    if len(found) != len(expected):
        wrong.append(f"it takes {len(found)} steps, not {len(expected)}")
    return wrong


def _commits(step: Mapping[str, abc.Sequence[int]]) -> str:
    pairs = list(zip(step["positions"], step["tokens"], strict=True))
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return ", ".join(f"{token} at {position}" for position, token in pairs[:4]) + more


def wrong_answer(case: Case, generation: Generation, model: Diffutron) -> tuple[list[str], float]:
    """Return the same for the generation graph, compared up to the answer's end."""
    found = generation(case.prompt_ids, case.config)
    start, end = len(case.prompt_ids), len(case.prompt_ids) + found.answer_length
    here, there = found.ids[start:end], case.canvas(model.bundle.special.mask)[start:end]
    text = model.extract_answer(found.ids, start, case.config, case.template)
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
