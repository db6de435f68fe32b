"""Bodies that no client sends by accident, and some that are just within the bounds."""

import json
from collections.abc import Iterator
from typing import Any

CHAT, COMPLETIONS, SCORE, DECISIONS = "/v1/chat/completions", "/v1/completions", "/v1/score", "/v1/systemone"
TURN = {"role": "user", "content": "On iki artı beş kaç eder?"}
SMALL = {"steps": 1, "max_tokens": 1}
SOUND: dict[str, dict[str, Any]] = {
    CHAT: {**SMALL, "messages": [TURN]},
    COMPLETIONS: {**SMALL, "prompt": "On iki artı"},
    SCORE: {"text": "On iki artı"},
    DECISIONS: {"state": "On iki artı", "questions": {"x": {"type": "noul"}}},
}
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    2**64,
    0.5,
    1e308,
    "",
    "x",
    "\0",
    "\x1b[2J",
    "<mask><eos>",
    "[/Answer]",
    "\ud7ff\ue000\U0010ffff",
    [],
    {},
    [[]],
    [{}],
    [None],
    [-1],
    [2**63],
    [True],
    ["x", 1],
    {"x": {"x": []}},
)
TEXTS = (  # of a body, after `{"prompt": "x", "steps": 1, "max_tokens": 1, `
    b'"seed": 1e999}',
    b'"seed": NaN}',
    b'"seed": -Infinity}',
    b'"seed": 1' + b"0" * 5000 + b"}",
    b'"temperature": 0.' + b"1" * 100_000 + b"}",
    b'"seed": 1, "seed": 2}',
    b'"prompt": "again"}',
    b'"user": "\\ud800"}',
    b'"user": "\\udc00\\ud800"}',
    b'"user": "\xff\xfe"}',
    b'"user": "\xc0\xaf"}',
    b'"user": "\xed\xa0\x80"}',
    b'"user": "\x00"}',
    b'"user": "\\u0000"}',
    b'"\\ud800": 1}',
    b'"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'"x": ' + b"[" * 100_000,
    b'"x": ' + b'{"x": ' * 5000 + b"1" + b"}" * 5001,
    b'"x": [' + b"1," * 400_000 + b"1]}",
    b'"user": "' + b"x" * 1_040_000 + b'"}',
    b'"user": "' + b"x" * 1_100_000 + b'"}',
    b"".join(b'"x%d": 1, ' % i for i in range(50_000)) + b'"y": 1}',
    b'"' + b"x" * 100_000 + b'": 1}',
    b'"x\\u000d\\u000aset-cookie: a": 1}',
    b'"x": 1}}',
    b'"x": 1} {}',
    b'"x": 1',
    b"",
)
WHOLE = (b"", b"\0", b"null", b"[]", b"{}", b'"x"', b"1", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"{}" * 2, b"\xff")


def bodies() -> Iterator[tuple[str, bytes]]:
    """Yield paths and bodies to post there."""
    start = json.dumps(SOUND[COMPLETIONS])[:-1].encode() + b", "
    yield from ((COMPLETIONS, start + text) for text in TEXTS)
    yield from ((path, whole) for path in SOUND for whole in WHOLE)
    for path, sound in SOUND.items():
        yield from (
            (path, json.dumps({**sound, **fields}).encode("utf-8", "surrogatepass")) for fields in _fields(path)
        )


def large() -> Iterator[tuple[str, bytes]]:
    """Yield a path and a body whose passes are as large as any: they make the model's memory as large as it gets."""
    yield SCORE, json.dumps({"text": "x " * 300, "method": "elbo", "samples": 8}).encode()


def confused(path: str, names: list[str]) -> Iterator[bytes]:
    """Yield bodies in which one field has a value of any type."""
    yield from (json.dumps({**SOUND[path], name: value}).encode() for name in names for value in ODD)


def _fields(path: str) -> Iterator[dict[str, Any]]:
    """Yield fields of a request, odd ones and such as are at a bound."""
    yield from {SCORE: _of_scores, DECISIONS: _of_decisions}.get(path, lambda: _of_generations(path))()


def _of_scores() -> Iterator[dict[str, Any]]:
    yield from ({"text": text} for text in (*ODD, ["x"] * 64, ["x"] * 65, "x" * 5000, "söz " * 200_000))
    yield from ({"text": ["x"] * 64, "context": "x" * length} for length in (1000, 4000, 4100))
    yield from ({"context": context, "template": True} for context in (*ODD, [TURN], [TURN] * 1025))
    yield from ({"method": "elbo", "samples": samples} for samples in (2, 3, 5000, 2**16, 2**16 + 1))
    yield from ({"method": "elbo", "samples": 2, "stride": stride, "text": "x " * 900} for stride in (1, 256, 257))
    yield from ({"method": method, "steps": 1} for method in ("pll", "policy"))
    yield {"suppress_tokens": list(range(2022))}


def _of_decisions() -> Iterator[dict[str, Any]]:
    yield from ({"state": state} for state in (*ODD, "x" * 900_000, [[[{}]]] * 100, {"x": 10**400}))
    yield from ({"questions": questions} for questions in ODD)
    yield from ({"questions": {"x": question}} for question in ODD)
    for kind in ("noul", "choice", "score"):
        yield from ({"questions": {"x": {"type": kind, "criteria": criteria}}} for criteria in ODD)
        yield from ({"questions": {"x": {"type": kind, "criteria": ["x"], "instructions": text}}} for text in ODD)
    names = [*filter(None, map(str, ODD)), "x" * 100_000]
    yield from ({"questions": {name: {"type": "choice", "criteria": {name: name}}}} for name in names)
    for count in (1, 3, 255, 256):
        criteria = {str(number): None for number in range(count)}
        yield from (
            {"questions": {"x": {"type": "choice", "criteria": criteria}}, "debias": on} for on in (True, False)
        )
    yield {"questions": {str(number): {"type": "noul"} for number in range(65)}}


def _of_generations(path: str) -> Iterator[dict[str, Any]]:
    yield from ({"n": n} for n in (1, 63, 64, 65))
    yield from ({"stop": ["x" * length] * count} for length in (1, 1000, 1001) for count in (0, 16, 17))
    yield from ({"suppress_tokens": list(range(count))} for count in (0, 1, 255, 256, 4096, 4097))
    yield from ({"penalty_exempt": [token]} for token in (0, 255, 2**31 - 1, 2**31, 2**63, 2**64))
    yield from (
        {"max_tokens": count, "block_length": length} for count in (200, 256, 2**31 - 1) for length in (1, 2**31 - 1)
    )
    yield from ({"stream": True, "diffusing": True, "n": n, "logprobs": True, "top_logprobs": 20} for n in (1, 4))
    yield from (
        {"steps": 4, "cache": "block", "refresh_entropy": 0.1, "commit": rule} for rule in ("factor", "entropy")
    )
    yield {"cfg_scale": 1000, "cfg_keep_tokens": [0, 1, 2], "temperature": 1000, "repetition_penalty": 0.001}
    if path == CHAT:
        yield from ({"messages": [TURN] * count} for count in (2, 3, 1024, 1025))
        yield from (
            {"messages": [{**TURN, "content": [{"type": "text", "text": "x"}] * count}]} for count in (0, 64, 65)
        )
        yield from ({"messages": [{**TURN, "content": text}]} for text in ODD)
        yield from (
            {"messages": [{**TURN, "role": role}]} for role in (*ODD, "system", "assistant", "developer", "tool")
        )
        return
    yield from (
        {"prompt": prompt, "n": n} for prompt in ([["x"], ["x"] * 8, ["x"] * 64, ["x"] * 65]) for n in (1, 8, 9)
    )
    yield from (
        {"prompt": prompt} for prompt in ([5], [[5], [6]], [[5], "x"], [5, "x"], [[], []], ["", ""], [2**62, 5])
    )
    yield from ({"prompt": [5] * length} for length in (254, 255, 256, 100_000))
    yield from ({"suffix": suffix, "n": 4} for suffix in (*ODD, "x" * 10_000, "x" * 900_000))
