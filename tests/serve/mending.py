"""Requests that keep to the server's document, made to mean something, so that many of them reach the model."""

from typing import Any

from diffutron_ort.config import OPTION_NAMES

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
    if "text" in body:
        body |= _score(body)
    if "questions" in body:
        body |= _decisions(body)
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


def _score(body: dict[str, Any]) -> dict[str, Any]:
    """Return fields of a request for scores whose options fit its method."""
    text = body["text"]
    texts = text[:100] if isinstance(text, str) else [one[:100] for one in text[:LONGEST]]
    samples, stride = 2 + int(body.get("samples") or 0) % LONGEST, 1 + int(body.get("stride") or 0) % 256
    method = body.get("method") if body.get("seed") else "policy"
    more = {"text": texts, "context": "x", "samples": samples, "stride": stride, "method": method, "temperature": 0}
    return more if method == "policy" else more | dict.fromkeys(OPTION_NAMES - {"seed"}) | {"preset": None}


def _decisions(body: dict[str, Any]) -> dict[str, Any]:
    """Return fields of a request for decisions that are short enough for the model."""
    questions = {name[:9]: _question(question) for name, question in [*body["questions"].items()][:3]}
    return {"state": str(body["state"])[:40], "questions": questions}


def _question(question: dict[str, Any]) -> dict[str, Any]:
    criteria = question.get("criteria")
    if question["type"] == "choice":
        criteria = {f"{name[:5]} {number}": None for number, name in enumerate([*criteria][:LONGEST])}
    if question["type"] == "score":
        criteria = [f"{str(level)[:5]} {number}" for number, level in enumerate(criteria[:LONGEST])]
    if question["type"] == "noul":
        criteria = None
    return {**question, "instructions": str(question.get("instructions"))[:40], "criteria": criteria}
