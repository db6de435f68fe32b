"""Requests that keep to the server's document, made to mean something, so that many of them reach the model."""

from typing import Any

ROLES = ("user", "assistant", "system", "developer")
PIECES = 300  # ids that every model has
LONGEST = 16  # new tokens, sequences and ids


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
        {**message, "role": ROLES[min(place, 1) and len(message["role"]) % 2], "content": _content(message["content"])}
        for place, message in enumerate(messages[:4])
    ]
    return [*turns, {"role": "user", "content": "On iki artı beş kaç eder?"}]


def _content(content: Any) -> Any:
    return [{**part, "type": "text"} for part in content] if isinstance(content, list) else content or "x"


def _prompt(prompt: Any) -> Any:
    if isinstance(prompt, str):
        return prompt[:100]
    texts = [one for one in prompt if isinstance(one, str | list)][:LONGEST]
    return [one if isinstance(one, str) else [int(token) % PIECES for token in one] for one in texts] or [5, 6]
