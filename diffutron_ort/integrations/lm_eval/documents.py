"""What CETVEL's tasks make of a row where a template does not suffice; task files name these functions.

After the task files and helpers of KUIS-AI/cetvel at commit 8942619 (arXiv 2508.16431).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from diffutron_ort.integrations.lm_eval.sources import CATEGORIES

Row = Mapping[str, Any]

SIMILAR = (0.5, 1.5, 2.5, 3.5, 4.5)
"""Where the next level of similarity begins."""

NO_SUCH_KEY = 3
"""The choice that counts as right where the key of a question of EXAMS is none of its labels, as in CETVEL."""

BECAUSE = MappingProxyType({"cause": "çünkü", "effect": "bu yüzden"})


def exams_choices(row: Row) -> list[str]:
    """Return the texts of the choices."""
    texts: list[str] = row["question"]["choices"]["text"]
    return texts


def exams_target(row: Row) -> int:
    """Return which choice is right."""
    labels, key = row["question"]["choices"]["label"], row["answerKey"].lstrip()
    return labels.index(key) if key in labels else NO_SUCH_KEY


def news_target(row: Row) -> int:
    """Return which choice is the category."""
    return CATEGORIES.index(row["label"])


def sts_target(row: Row) -> int:
    """Return which of the six levels of similarity a score from 0 to 5 is."""
    return sum(row["score"] >= least for least in SIMILAR)


def xcopa_text(row: Row) -> str:
    """Return the premise without its full stop, and what joins a cause or an effect to it."""
    return f"{row['premise'].strip()[:-1]} {BECAUSE[row['question']]}"


def xcopa_choices(row: Row) -> list[str]:
    """Return the choices, which now stand within a sentence, as CETVEL does.

    Python's rule for small letters makes two characters of İ (i and a combining dot) and i of I, neither of which is
    Turkish.
    """
    return [_small(row[name], str.lower) for name in ("choice1", "choice2")]


def xcopa_choices_turkish(row: Row) -> list[str]:
    """Return the choices, which now stand within a sentence, by Turkish rules: i for İ, ı for I."""
    return [_small(row[name], _turkish_lower) for name in ("choice1", "choice2")]


def _small(text: str, lower: Any) -> str:
    """Return a text with a small first letter."""
    return f"{lower(text[0])}{text[1:]}"


def _turkish_lower(letter: str) -> str:
    return {"İ": "i", "I": "ı"}.get(letter, letter.lower())


def macro_f1(items: Iterable[tuple[int, int]]) -> float:
    """Return the mean of the F1 of each class, given pairs of the right class and the one that was chosen."""
    from sklearn.metrics import f1_score

    right, chosen = zip(*items, strict=True)
    return float(f1_score(right, chosen, average="macro"))
