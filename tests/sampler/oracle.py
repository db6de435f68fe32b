"""The sampler once more, a position and a token at a time, in Python's own numbers; shares no code with the package.

Written from the description of the reference; slow, and with nothing to get wrong but what it says.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

PAD, EOS, MASK = 0, 1, 4
WORD = 0xFFFFFFFF
NEIGHBOURS = (0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1, 0xD3A2646C)


def mix(x: int) -> int:
    x ^= x >> 16
    x = x * 0x7FEB352D & WORD
    x ^= x >> 15
    x = x * 0x846CA68B & WORD
    return x ^ x >> 16


def uniform(seed: int, stream: int, block: int, step: int, position: int) -> float:
    h = 0x9E3779B9
    for word in (seed & WORD, seed >> 32, stream, block, step, position):
        h = mix(h ^ word) + 0x9E3779B9 & WORD
    return (h >> 8) / 2**24


def hash_logit(canvas: Sequence[int], salt: int, t: int, v: int) -> float:
    """Return one logit of the hash model."""
    around = [canvas[t + d] + 1 if 0 <= t + d < len(canvas) else 0 for d in range(-2, 3)]
    h = sum(token * factor for token, factor in zip(around, NEIGHBOURS, strict=True))
    h = h + t * 0x9E3779B1 + salt + v * 0x9E3779B1 & WORD
    h = (h ^ h >> 16) * 0x85EBCA6B & WORD
    h = (h ^ h >> 13) * 0xC2B2AE35 & WORD
    return float(np.float32(12 * ((h ^ h >> 16) / 2**32 - 0.5)))


def probability(step: int, steps: int, schedule: str) -> float:
    def alpha(t: float) -> np.float32:
        t, one = np.float32(t), np.float32(1)
        return one - t if schedule == "linear" else one - np.cos(np.float32(math.pi / 2) * (one - t))

    now, then = alpha((steps - step) / steps), alpha((steps - step - 1) / steps)
    return 1 - float(np.float32(np.float32(1) - then) / (np.float32(1) - now))


def binomial(trials: int, p: float, u: float) -> int:
    below = 0.0
    for k in range(trials):
        below += math.comb(trials, k) * p**k * (1 - p) ** (trials - k)
        if below > u:
            return k
    return trials


def counts(masks: int, steps: int, options: Any, seed: int, block: int) -> list[int]:
    result = []
    for step in range(steps):
        p = probability(step, steps, options.schedule)
        if options.stochastic_transfer:
            k = binomial(masks, p, uniform(seed, 2, block, step, 0))
        else:
            k = min(int(np.rint(masks * p)), masks)
        masks -= k
        result.append(k)
    return [k for k in result if k]


def row_of_logits(
    canvas: Sequence[int], first: Sequence[int], t: int, options: Any, vocab: int, salt: int
) -> list[float]:
    row = [hash_logit(canvas, salt, t, v) for v in range(vocab)]
    if options.cfg_scale:
        given = [c != MASK and c not in options.cfg_keep_tokens for c in first]
        blind = [MASK if g else c for g, c in zip(given, canvas, strict=True)]
        scale = np.float32(options.cfg_scale + 1)
        for v in range(vocab):
            u = np.float32(hash_logit(blind, salt, t, v))
            row[v] = float(u + scale * (np.float32(row[v]) - u))
    for v in options.suppress_tokens:
        row[v] = -math.inf
    penalty = np.float32(options.repetition_penalty)
    for v in set(canvas) - {MASK, EOS} - set(options.penalty_exempt):
        row[v] = float(np.float32(row[v]) / penalty if row[v] > 0 else np.float32(row[v]) * penalty)
    return row


def entropy(row: Sequence[float]) -> float:
    weights = [math.exp(l - max(row)) for l in row]  # noqa: E741
    return -math.fsum(w / sum(weights) * math.log(w / sum(weights)) for w in weights if w)


def sure(odds: Sequence[float], entropies: Sequence[float], options: Any) -> int:
    """Return how many of the first candidates the rule lets go together: the largest number that fits."""
    fitting = [0]
    for n in range(1, len(odds) + 1):
        joint = sum(entropies[:n]) - max(entropies[:n])
        wrong = 1 - 1 / (1 + odds[n - 1])
        if options.commit == "factor" and (n + 1) * wrong < options.commit_factor:
            fitting.append(n)
        if options.commit == "entropy" and joint <= options.commit_entropy:
            fitting.append(n)
    return max(fitting)


def pick(row: Sequence[float], temperature: float, u: float) -> int:
    best_first = sorted(range(len(row)), key=lambda v: (-row[v], v))
    if not temperature:
        return best_first[0]
    weights = [math.exp((l - row[best_first[0]]) / temperature) for l in row]  # noqa: E741
    total, walked, last = sum(weights), 0.0, best_first[0]
    for v in best_first[:64] + sorted(best_first[64:]):
        if weights[v]:
            walked, last = walked + weights[v], v
        if walked > u * total:
            return v
    return last


def trajectory(
    prompt: Sequence[int], options: Any, vocab: int, salt: int, seed: int, infill: bool
) -> Iterator[list[int]]:
    """Yield the canvas after every step."""
    canvas = list(prompt) + ([] if infill else [MASK] * options.max_new_tokens)
    first, begin = list(canvas), 0 if infill else len(prompt)
    blocks = math.ceil((len(canvas) - begin) / options.block_length)
    for block in range(blocks):
        low = begin + block * options.block_length
        high = min(low + options.block_length, len(canvas))
        masks = canvas[low:high].count(MASK)
        for step, k in enumerate(counts(masks, math.ceil(options.steps / blocks), options, seed, block)):
            ranked = []
            for t in range(low if infill else 0, high):
                if canvas[t] == MASK:
                    row = row_of_logits(canvas, first, t, options, vocab, salt)
                    token = pick(row, options.temperature, uniform(seed, 0, block, step, t))
                    odds = math.fsum(math.exp(l - row[token]) for v, l in enumerate(row) if v != token)  # noqa: E741
                    doubt = -uniform(seed, 1, block, step, t) if options.remasking == "random" else odds
                    ranked.append((doubt, t, token, odds, entropy(row)))
            if not ranked:
                break
            ranked.sort()
            k = max(k, sure([r[3] for r in ranked], [r[4] for r in ranked], options))
            for _, t, token, _, _ in ranked[:k]:
                canvas[t] = token
            yield list(canvas)
