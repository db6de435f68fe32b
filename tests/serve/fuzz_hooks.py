"""Lets requests that keep to the document mean something, so that many of them reach the model.

Schemathesis loads it by SCHEMATHESIS_HOOKS. What breaks the document's rules on purpose stays as it is.
"""

from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext

ROLES = ("user", "assistant", "system", "developer")
PIECES = 300  # ids that every model has
LONGEST = 16  # new tokens, sequences and ids


@schemathesis.hook  # type: ignore[untyped-decorator]
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Mend a request to a model before it is sent."""
    is_sound = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if is_sound and isinstance(case.body, dict) and sum(map(len, repr(case.body))) % 8:  # one in eight is not mended
        case.body = mended(case.body)


def mended(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request with the same options, but for those that would be refused for their combination."""
    body = {
        name: value for name, value in body.items() if name not in ("max_new_tokens", "max_completion_tokens", "model")
    }
    body["max_tokens"] = 1 + int(body.get("max_tokens") or 0) % LONGEST
    body["n"] = 1 + int(body.get("n") or 0) % 4
    if body.get("remasking") == "random":
        body["commit"] = "schedule"
    for name in ("suppress_tokens", "penalty_exempt", "cfg_keep_tokens"):
        body[name] = [int(token) % PIECES for token in body.get(name) or ()]
    if "messages" in body:
        body["messages"] = _messages(body["messages"])
    if "prompt" in body:
        body["prompt"] = _prompt(body["prompt"])
    return body


def _messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    turns = [
        {**message, "role": ROLES[min(place, 1) and len(message["role"]) % 2], "content": message["content"] or "x"}
        for place, message in enumerate(messages[:4])
    ]
    return [*turns, {"role": "user", "content": "On iki artı beş kaç eder?"}]


def _prompt(prompt: Any) -> Any:
    if isinstance(prompt, str):
        return prompt[:100]
    texts = [one for one in prompt if isinstance(one, str | list)][:LONGEST]
    return [one if isinstance(one, str) else [int(token) % PIECES for token in one] for one in texts] or [5, 6]
