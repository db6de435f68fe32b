"""The likelihoods again, by enumeration and in float64; shares no code with the package."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

MASK = 4
Row = Callable[[Sequence[int], int], Sequence[float]]
"""The raw logits of one position of a canvas."""


def logprob(row: Sequence[float], token: int) -> float:
    best = max(row)
    return row[token] - best - math.log(math.fsum(math.exp(value - best) for value in row))


def hidden(ids: Sequence[int], positions: Sequence[int]) -> list[int]:
    return [MASK if i in positions else token for i, token in enumerate(ids)]


def policy(logits: Row, ids: Sequence[int], start: int, counts: Sequence[Sequence[int]], block: int) -> float:
    """Return the likelihood under a sampler that fills blocks in turn, the surest predictions first.

    `counts` say how many each step of each block commits.
    """
    canvas, total = hidden(ids, range(start, len(ids))), 0.0
    for number, steps in enumerate(counts):
        low = start + number * block
        for count in steps:
            masked = [i for i in range(low, min(low + block, len(ids))) if canvas[i] == MASK]
            rows = {i: logits(canvas, i) for i in masked}
            first = sorted(masked, key=lambda i: (-logprob(rows[i], rows[i].index(max(rows[i]))), i))[:count]
            total += sum(logprob(rows[i], ids[i]) for i in first)
            for i in first:
                canvas[i] = ids[i]
    assert MASK not in canvas[start:]
    return total


def by_order(logits: Row, ids: Sequence[int], start: int) -> Iterator[float]:
    """Yield the logarithm of a text's probability for each order in which its tokens can be written."""
    for order in permutations(range(start, len(ids))):
        yield math.fsum(logprob(logits(hidden(ids, order[i:]), at), ids[at]) for i, at in enumerate(order))


def bound(logits: Row, ids: Sequence[int], start: int) -> float:
    """Return the bound by all maskings."""
    places, total = range(start, len(ids)), 0.0
    for k in range(1, len(places) + 1):
        choices = list(combinations(places, k))
        each = [math.fsum(logprob(logits(hidden(ids, c), i), ids[i]) for i in c) for c in choices]
        total += len(places) / k * math.fsum(each) / len(choices) / len(places)
    return total


def pseudo(logits: Row, ids: Sequence[int], start: int, words: Sequence[int] | None = None) -> float:
    def masked(at: int) -> list[int]:
        return [at] if words is None else [i for i in range(at, len(ids)) if words[i] == words[at]]

    return math.fsum(logprob(logits(hidden(ids, masked(i)), i), ids[i]) for i in range(start, len(ids)))
