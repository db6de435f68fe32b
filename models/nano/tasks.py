"""Write held-out exercises in the layouts of the tasks that `diffutron-ort eval` reads, one file a task.

    python models/nano/tasks.py --out DIR
    diffutron-ort eval models/nano --data DIR --include models/nano/evaluation --tasks nano_tr --apply-chat-template

nano knows no news and no irony: a file holds its exercises in the columns that the task of that name reads. A question
with four answers is a row of EXAMS as it is; the other rows only make sense to the task files in `evaluation/`, which
ask the question alone and offer answers that nano knows. CETVEL's own prompts around them say nothing to nano.
"""

from __future__ import annotations

import argparse
import json
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from exercises import KINDS, Exercise, draw_from
from turkish import capitalise, lower
from words import ANTONYMS, CAPITALS, DAYS, MONTHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Row = dict[str, Any]

TRIES = 1000
"""The number of draws in a row without anything new after which there is nothing left."""

LABELS = ("A", "B", "C", "D")
NEWS = ("sport", "magazine", "politics", "health", "economy")
TENS = ("on", "yirmi", "otuz", "kırk", "elli", "altmış")


def drawn(rng: Random, kinds: Sequence[str], answers: Sequence[str] = ()) -> Iterator[Exercise]:
    """Yield held-out exercises of some kinds, each question once, until there are no more; the kinds take turns.

    Args:
        rng: Draws them.
        kinds: Of the exercises.
        answers: If there are any, only exercises whose answer is one of these.
    """
    seen: set[str] = set()
    tries = 0
    for kind in cycle(kinds):
        exercise = draw_from("held-out", kind, rng)
        tries += 1
        if lower(exercise.question) not in seen and (not answers or exercise.answer in answers):
            seen.add(lower(exercise.question))
            tries = 0
            yield exercise
        if tries > TRIES:
            return


def options(exercise: Exercise, rng: Random, count: int) -> list[str]:
    """Return the answer and others of its kind, `count` in all, in any order."""
    found = {exercise.answer}
    while len(found) < count:
        found.add(draw_from("training", exercise.kind, rng).answer)
    return rng.sample(sorted(found), count)


def halves(text: str) -> tuple[str, str]:
    """Return a text in two parts, which a space joins."""
    words = text.split(" ")
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def exams(rng: Random) -> Iterator[Row]:
    """Yield a question with four choices."""
    for exercise in drawn(rng, list(KINDS)):
        texts = options(exercise, rng, 4)
        choices = {"text": texts, "label": list(LABELS)}
        yield {
            "question": {"stem": exercise.question, "choices": choices},
            "answerKey": LABELS[texts.index(exercise.answer)],
        }


def belebele(rng: Random) -> Iterator[Row]:
    """Yield a question with four answers, after a passage that has nothing to do with it."""
    for exercise in drawn(rng, list(KINDS)):
        texts = options(exercise, rng, 4)
        answers = {f"mc_answer{i}": text for i, text in enumerate(texts, 1)}
        number = str(texts.index(exercise.answer) + 1)
        passage = "Bugün hava güzel."
        yield {"flores_passage": passage, "question": exercise.question, **answers, "correct_answer_num": number}


def xcopa(rng: Random) -> Iterator[Row]:
    """Yield a question with two answers."""
    for exercise, question in zip(drawn(rng, list(KINDS)), cycle(("cause", "effect")), strict=False):
        first, second = options(exercise, rng, 2)
        row = {"premise": exercise.question, "question": question, "choice1": first, "choice2": second}
        yield {**row, "label": [first, second].index(exercise.answer)}


def irony(rng: Random) -> Iterator[Row]:
    """Yield a question whose answer is Monday (0) or Tuesday (1)."""
    for exercise in drawn(rng, ("day", "gap"), DAYS[:2]):
        yield {"text": exercise.question, "label": DAYS.index(exercise.answer)}


def news(rng: Random) -> Iterator[Row]:
    """Yield a question whose answer is a day from Monday to Friday, each of which has a label."""
    for exercise in drawn(rng, ("day", "gap"), DAYS[:5]):
        yield {"text": exercise.question, "label": NEWS[DAYS.index(exercise.answer)]}


def nli(rng: Random) -> Iterator[Row]:
    """Yield the halves of a question whose answer is January (0), February (1) or March (2)."""
    for exercise in drawn(rng, ("month", "gap"), MONTHS[:3]):
        premise, hypothesis = halves(exercise.question)
        yield {"premise": premise, "hypothesis": hypothesis, "label": MONTHS.index(exercise.answer)}


def sts(rng: Random) -> Iterator[Row]:
    """Yield the halves of a sum that comes to ten (0) or a multiple up to sixty (5)."""
    for exercise in drawn(rng, ("sum",), TENS):
        first, second = halves(exercise.question)
        yield {"sentence1": first, "sentence2": second, "score": float(TENS.index(exercise.answer))}


def pairs(rng: Random) -> Iterator[Row]:
    """Yield a true sentence and a false one; nano has read the true ones."""
    while True:
        (country, city), (_, other) = rng.sample(CAPITALS, 2)
        (word, opposite), (_, wrong) = rng.sample(ANTONYMS, 2)
        about = rng.choice(
            (
                (f"{country} başkenti {{}} şehridir.", city, other),
                (f"{capitalise(word)} sözcüğünün karşıtı {{}} sözcüğüdür.", opposite, wrong),
            )
        )
        yield dict(zip(("sentence_good", "sentence_bad"), map(about[0].format, about[1:]), strict=True))


FILES: dict[str, Callable[[Random], Iterator[Row]]] = {
    "belebele_tr": belebele,
    "exams_tr": exams,
    "ironytr": irony,
    "news_cat": news,
    "mnli_tr": nli,
    "sts_tr": sts,
    "xcopa_tr": xcopa,
    "nano_pairs": pairs,
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write exercises in the layouts of tasks.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=40, help="the most rows of a file; some have fewer exercises")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in FILES.items():
        found = islice(rows(Random(f"{options.seed}/{name}")), options.count)  # a string seeds the same everywhere
        lines = [json.dumps(row, ensure_ascii=False) for row in found]
        (options.out / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
        print(f"{name}: {len(lines)} rows")


if __name__ == "__main__":
    main()
