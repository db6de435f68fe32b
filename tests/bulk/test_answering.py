"""Many records in batches: each is answered as it would be alone, and what is held is bounded."""

import itertools

import pytest

from diffutron_ort.bulk.answering import BATCHES, answer
from diffutron_ort.errors import OptionError
from diffutron_ort.sampler.engine import BATCH_SIZE
from tests.bulk.fakes import QUICK, WORD, not_a_number, watched


def records(count):
    """Return records of many lengths, some with options of their own."""
    found = [{"id": i, "prompt": f"{i} artı {i % 5} kaç eder" + " acaba" * (i * 7 % 11)} for i in range(count)]
    for i in range(0, count, 5):
        found[i]["options"] = {"steps": 1 + i % 4, "max_new_tokens": 4 + i % 9}
    return found


def test_each_record_is_answered_as_it_would_be_alone(model):
    given = records(3 * BATCHES * BATCH_SIZE)
    answers = list(answer(model, iter(given), start=4, seed=7, **QUICK))
    assert [found["id"] for found in answers] == list(range(len(given)))
    for i, (record, found) in enumerate(zip(given, answers, strict=True)):
        options = {**QUICK, "seed": 7 + 4 + i, **record.get("options", {})}
        alone = model.generate(record["prompt"], details=True, **options)
        assert (found["completion"], found["finish_reason"]) == (alone.text, alone.finish_reason)


def test_a_seed_of_its_own_does_not_depend_on_the_place(model):
    record = {"prompt": "Nasılsın?", "options": {"seed": 3}}
    first, second = answer(model, [record, record], **QUICK)
    assert first["completion"] == second["completion"] == model.generate("Nasılsın?", seed=3, **QUICK)


def test_messages_are_answered(model):
    messages = [{"role": "user", "content": "On iki artı beş kaç eder?"}]
    assert next(answer(model, [{"messages": messages}]))["completion"] == "on yedi"


def test_sequences_share_passes_throughout(model):
    twin, graph = watched(model)
    list(answer(twin, records(4 * BATCHES * BATCH_SIZE), **QUICK))
    assert max(graph.sizes) == BATCH_SIZE
    assert sum(graph.sizes) > 0.9 * BATCH_SIZE * len(
        graph.sizes
    )  # a window's last ones run beside the next one's first


def test_a_model_that_is_not_batch_invariant_answers_one_at_a_time(model):
    twin, graph = watched(model)
    graph.batch_invariant = False
    given = records(8)
    answers = list(answer(twin, given, **QUICK))
    assert set(graph.sizes) == {1}
    assert answers == list(answer(model, given, **QUICK))


def test_records_that_cannot_be_answered_fail_alone(model):
    given = [*records(9), {"prompt": "x " * 400}, {"prompt": "a\ud800"}, {"prompt": " "}, {"prompt": "Selam"}]
    given[3] = {"id": 3}
    answers = list(answer(model, given, **QUICK))
    assert [i for i, found in enumerate(answers) if "error" in found] == [3, 9, 10, 11]
    for i, why in ((3, "no prompt"), (9, "the model's context is"), (10, "surrogate"), (11, "no text")):
        assert why in answers[i]["error"]
    assert answers[12]["completion"] == model.generate("Selam", seed=12, **QUICK)


def test_a_number_that_is_not_finite_fails_its_record_alone(model):
    given = records(20)
    given[5] = {"prompt": WORD}
    given[17] = {"prompt": f"{WORD} {WORD}"}
    twin, _ = watched(model, not_a_number)
    answers, usual = list(answer(twin, given, **QUICK)), list(answer(model, given, **QUICK))
    assert [i for i, found in enumerate(answers) if "error" in found] == [5, 17]
    assert "finite" in answers[5]["error"]
    assert all(found == usual[i] for i, found in enumerate(answers) if i not in (5, 17))


def test_little_is_read_ahead_however_long_a_record_takes(model):
    taken = 0

    def endless():
        nonlocal taken
        for number in itertools.count():
            taken += 1
            slow = {"max_new_tokens": 40, "steps": 40, "early_end": False}
            yield {"prompt": "a", "options": slow} if number == 0 else {"prompt": None}

    answers = answer(model, endless(), **QUICK)
    next(answers)
    assert taken <= 2 * BATCHES * BATCH_SIZE


def test_options_are_checked_before_anything_is_read(model):
    with pytest.raises(OptionError, match="stepz"):
        answer(model, [], stepz=1)
