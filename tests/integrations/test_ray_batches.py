"""The class for `map_batches` without a cluster: batches in all of Ray's formats, and each row by itself."""

from types import SimpleNamespace

import pytest

from diffutron_ort.errors import InputError, OptionError

pytestmark = pytest.mark.ray
QUESTIONS = ["On iki artı beş kaç eder?", "Zıddını yaz: sığ", "Ters sırala: kitap, deniz, okul, elma"]
UNSURE = {"temperature": 20.0, "max_new_tokens": 12, "steps": 6}  # so that the seed decides


@pytest.fixture
def answerer():
    from diffutron_ort.integrations.ray import Answerer

    return Answerer


def table(rows):
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def formats(rows):
    from ray.data.block import BlockAccessor

    block = BlockAccessor.for_block(rows)
    return {name: block.to_batch_format(name) for name in ("numpy", "pandas", "pyarrow")}


ROWS = [
    {"id": 7, "prompt": QUESTIONS[0], "source": ["a", "b"]},
    {"id": 3, "messages": [{"role": "user", "content": QUESTIONS[1]}], "source": []},
    {"id": 4, "prompt": QUESTIONS[2], "options": {"seed": 1, "max_new_tokens": 4}},
]


@pytest.mark.parametrize("kind", ["numpy", "pandas", "pyarrow"])
def test_rows_are_answered_in_every_format_as_the_library_answers_them(kind, answerer, model):
    batch = formats(table(ROWS))[kind]
    found = answerer(index="id", seed=100, **UNSURE)(batch).to_pylist()
    expected = [
        model.complete(QUESTIONS[0], **UNSURE, seed=107),
        model.complete(QUESTIONS[1], **UNSURE, seed=103),
        model.complete(QUESTIONS[2], **(UNSURE | {"seed": 1, "max_new_tokens": 4})),
    ]
    assert [row["completion"] for row in found] == [each.text for each in expected]
    assert [row["finish_reason"] for row in found] == [each.finish_reason for each in expected]
    assert [row["error"] for row in found] == [None] * 3
    assert [row["source"] for row in found] == [["a", "b"], [], None]
    assert found[1]["messages"] == ROWS[1]["messages"]


def test_the_seed_decides_and_company_does_not(answerer):
    rows = [{"id": i, "prompt": QUESTIONS[i % 3]} for i in range(12)]
    whole = answerer(index="id", **UNSURE)
    together = whole(table(rows)).to_pylist()
    assert len({row["completion"] for row in together[::3]}) > 1
    alone = [whole(table([row])).to_pylist()[0] for row in reversed(rows)]
    assert alone == together[::-1]
    same = answerer(**UNSURE)(table(rows)).to_pylist()
    assert len({row["completion"] for row in same[::3]}) == 1


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"prompt": None}, "there is no prompt"),
        ({"prompt": " "}, "has no text"),
        ({"prompt": "a", "completion": "b"}, "already a 'completion'"),
        ({"prompt": "a", "options": {"stepz": 3}}, "unknown option"),
        ({"prompt": "a", "options": 5}, "the options are 5"),
        ({"prompt": "kitap " * 300}, "the model's context is 256"),
    ],
)
def test_a_row_that_fails_keeps_its_values_and_gets_an_error(row, error, answerer):
    [found] = answerer()(table([row])).to_pylist()
    assert error in found["error"]
    assert found == row | {"completion": row.get("completion"), "finish_reason": None, "error": found["error"]}


def test_columns_have_their_types_when_they_are_empty(answerer):
    answer = answerer()
    assert answer(table([{"prompt": None}])).schema == answer(table([{"prompt": None, "error": "x"}])).schema
    good = answer(table([{"prompt": QUESTIONS[0]}]))
    assert [str(good.schema.field(name).type) for name in ("completion", "error")] == ["string", "string"]
    assert answer(table([{"prompt": "a"}]).slice(0, 0)).num_rows == 0


@pytest.mark.parametrize("rows", [[{"prompt": "a"}], [{"id": 0.5}], [{"id": None}, {"id": 1}]])
def test_a_column_that_numbers_no_rows_is_refused(rows, answerer):
    with pytest.raises(InputError, match="index='id'"):
        answerer(index="id")(table(rows))


def test_options_are_refused_when_the_actor_starts(answerer):
    with pytest.raises(OptionError, match="unknown option"):
        answerer(stepz=3)


def test_a_model_has_as_many_threads_as_its_actor_has_processors(answerer, monkeypatch):
    import ray

    from diffutron_ort.model import Diffutron

    asked = []
    original = Diffutron.from_pretrained
    monkeypatch.setattr(Diffutron, "from_pretrained", lambda *a, **k: asked.append(k["threads"]) or original(*a, **k))
    answerer()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for given in ({"CPU": 3.0}, {"CPU": 0.5}, {}):
        monkeypatch.setattr(
            ray, "get_runtime_context", lambda given=given: SimpleNamespace(get_assigned_resources=lambda: given)
        )
        answerer()
    answerer(threads=2)
    assert asked == [None, 3, 1, 1, 2]
