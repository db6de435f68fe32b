"""What the tasks read: where each data set is on the Hub, and what a row of it holds, there and in a local file."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Column(NamedTuple):
    """What a column of a row may hold.

    Attributes:
        allowed: In words.
        fits: Whether a value is allowed.
    """

    allowed: str
    fits: Callable[[Any], bool]


class Source(NamedTuple):
    """The rows of one or several tasks.

    Attributes:
        name: Of the local file, which is NAME.jsonl.
        hub: The data set's id on the Hub.
        subset: Its configuration there, if it has several.
        split: The part that is evaluated.
        columns: What each row has, by name; anything else in it is ignored.
    """

    name: str
    hub: str
    subset: str | None
    split: str
    columns: Mapping[str, Column]

    @property
    def file(self) -> str:
        """The name of the local file."""
        return f"{self.name}.jsonl"

    @property
    def layout(self) -> str:
        """The columns of a row, in words."""
        return ", ".join(f"{name} ({column.allowed})" for name, column in self.columns.items())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not value.isspace() and value != ""


def _is_question(value: Any) -> bool:
    """Return whether a value is a question of EXAMS: a stem, and at least two choices with a label each."""
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, dict) or not _is_text(value.get("stem")):
        return False
    texts, labels = choices.get("text"), choices.get("label")
    if not isinstance(texts, list) or not isinstance(labels, list):
        return False
    return len(texts) == len(labels) >= 2 and all(isinstance(item, str) for item in [*texts, *labels])


def _one_of(*values: str | int) -> Column:
    allowed = ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
    return Column(allowed, lambda value: type(value) is type(values[0]) and value in values)


TEXT = Column("text", _is_text)
SCORE = Column("a number from 0 to 5", lambda value: type(value) in (int, float) and 0 <= value <= 5)
QUESTION = Column("an object: stem, and choices with the lists text and label", _is_question)

_ANSWERS = {f"mc_answer{i}": TEXT for i in range(1, 5)}
_PAIR = {"sentence_good": TEXT, "sentence_bad": TEXT}

CATEGORIES = ("sport", "magazine", "politics", "health", "economy")
"""The labels of the news, in the order of the choices."""

PHENOMENA = (
    "anaphor_agreement",
    "argument_structure_ditransitive",
    "argument_structure_transitive",
    "binding",
    "determiners",
    "ellipsis",
    "irregular_forms",
    "island_effects",
    "nominalization",
    "npi_licensing",
    "passives",
    "quantifiers",
    "relative_clauses",
    "scrambling",
    "subject_agreement",
    "suspended_affixation",
)
"""What TurBLiMP's minimal pairs are about (arXiv 2506.13487); one task each."""

_CETVEL = (
    Source(
        "belebele_tr",
        "facebook/belebele",
        "tur_Latn",
        "test",
        {
            "flores_passage": TEXT,
            "question": TEXT,
            **_ANSWERS,
            "correct_answer_num": _one_of("1", "2", "3", "4"),
        },
    ),
    Source("exams_tr", "mhardalov/exams", "crosslingual_tr", "validation", {"question": QUESTION, "answerKey": TEXT}),
    Source("ironytr", "mcemilg/IronyTR", None, "validation", {"text": TEXT, "label": _one_of(0, 1)}),
    Source(
        "news_cat",
        "mcemilg/news-cat",
        None,
        "test",
        {"text": TEXT, "label": _one_of(*CATEGORIES)},
    ),
    Source(
        "mnli_tr",
        "boun-tabi/nli_tr",
        "multinli_tr",
        "validation_matched",
        {"premise": TEXT, "hypothesis": TEXT, "label": _one_of(0, 1, 2, -1)},
    ),
    Source("sts_tr", "emrecan/stsb-mt-turkish", None, "test", {"sentence1": TEXT, "sentence2": TEXT, "score": SCORE}),
    Source(
        "xcopa_tr",
        "cambridgeltl/xcopa",
        "tr",
        "test",
        {
            "premise": TEXT,
            "question": _one_of("cause", "effect"),
            "choice1": TEXT,
            "choice2": TEXT,
            "label": _one_of(0, 1),
        },
    ),
)
_TURBLIMP = tuple(Source(f"turblimp_{name}", "juletxara/turblimp", name, "train", _PAIR) for name in PHENOMENA)
_PAIRS = Source("nano_pairs", "", None, "", _PAIR)  # made by models/nano/tasks.py, and on no Hub

SOURCES: Mapping[str, Source] = MappingProxyType({source.name: source for source in (*_CETVEL, *_TURBLIMP, _PAIRS)})
"""All of them, by name."""
