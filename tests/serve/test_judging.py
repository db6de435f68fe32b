"""POST /v1/score and /v1/systemone: their figures are the model's own, and what they refuse before any pass."""

import asyncio

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.scoring.work import finished
from diffutron_ort.serve.api.requests import MOST_OPTIONS, ChoiceQuestion
from diffutron_ort.serve.api.typed_questions import put
from diffutron_ort.serve.settings import Settings
from diffutron_ort.slots.filling import Counted
from tests.serve.serving import QUESTION, gauge, post, serving, until
from tests.serve.test_scheduler import asked

SUMS = ["on yedi", "on altı", "yirmi yedi"]


def score(model, status=200, **body):
    answer = post(model, "/v1/score", body)
    assert answer.status_code == status, answer.text
    return answer.json()


def decide(model, status=200, settings=(), **body):
    answer = post(model, "/v1/systemone", {"state": "On iki artı beş.", **body}, **dict(settings))
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("method", ["policy", "elbo", "pll", "pll_word_l2r"])
def test_scores_are_those_of_the_model(model, method):
    found = score(model, text=SUMS, context=QUESTION, template=True, method=method, samples=4)
    own = model.score(SUMS, QUESTION, template=True, method=method, samples=4)
    assert [one["logprob"] for one in found["scores"]] == pytest.approx([one.logprob for one in own], rel=1e-6)
    first = found["scores"][0]
    assert sum(one["logprob"] for one in first["token_logprobs"]) == pytest.approx(first["logprob"])
    assert [one["id"] for one in first["token_logprobs"]] == own[0].ids.tolist()
    assert "".join(one["token"] for one in first["token_logprobs"]).startswith(" on yedi")
    assert (first["standard_error"] is None) == (method != "elbo")
    assert (found["object"], found["model"], found["usage"]["completion_tokens"]) == ("score", "nano", 0)
    assert found["usage"]["total_tokens"] == sum(one.context_tokens + one.tokens for one in own)


def test_a_text_that_cannot_be_written_is_told_without_infinity(model):
    banned = model.tokenizer.encode("on yedi")[1]
    [found] = score(model, text="on yedi", suppress_tokens=[banned])["scores"]
    assert not found["possible"]
    assert found["logprob"] is found["perplexity"] is found["bits_per_byte"] is None
    assert [one["logprob"] is None for one in found["token_logprobs"]] == [False, True]


def test_messages_are_a_context_and_nothing_is_a_text(model):
    [found] = score(model, text="", context=[{"role": "user", "content": QUESTION}], template=True)["scores"]
    assert found["bytes"] == 0
    [nothing] = score(model, text="")["scores"]
    assert (nothing["tokens"], nothing["logprob"], nothing["perplexity"]) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"text": []}, "invalid_value", "text"),
        ({"text": ["x"] * 65}, "invalid_value", "text"),
        ({"text": 5}, "invalid_value", "text"),
        ({}, "invalid_value", "text"),
        ({"text": "x", "method": "mll"}, "invalid_value", "method"),
        ({"text": "x", "samples": 1}, "invalid_value", "samples"),
        ({"text": "x", "method": "elbo", "samples": 4097}, "too_many_passes", "text"),
        ({"text": "söz " * 5000}, "too_many_passes", "text"),
        ({"text": "söz " * 2500, "cfg_scale": 1.0}, "too_many_passes", "text"),
        ({"text": ["x"] * 64, "context": "x" * 4100}, "invalid_value", "text"),
        ({"text": "x" * 200_000}, "too_many_passes", "text"),
        ({"text": "x", "stride": 257}, "invalid_value", None),
        ({"text": "x", "steps": 4, "method": "pll"}, "invalid_value", None),
        ({"text": "x", "temperature": 1}, "invalid_value", None),
        ({"text": "x", "template": True}, "invalid_value", "text"),
        ({"text": "x", "template": True, "context": "a [/Question]"}, "template_tags", "context"),
        ({"text": "x", "context": [{"role": "user", "content": "x"}]}, "invalid_value", "text"),
        ({"text": "x", "tools": [{}]}, "unsupported_value", "tools"),
    ],
)
def test_what_a_score_refuses(model, body, code, param):
    error = score(model, 400, **body)["error"]
    assert (error["code"], error["param"]) == (code, param)


def test_fields_of_a_generation_are_ignored_and_named(model):
    answer = post(model, "/v1/score", {"text": "x", "stream": True, "max_tokens": 3, "stop": "x"})
    assert answer.headers["x-ignored"] == "max_tokens, stop, stream"


def test_each_type_of_question_is_answered_by_the_models_choice(model):
    questions = {
        "is": {"type": "noul", "instructions": "Doğru mu?", "criteria": {"true": "on yedi eder", "false": None}},
        "sum": {"type": "choice", "instructions": {"soru": "kaç"}, "criteria": {"on yedi": None, "on altı": ["x", 1]}},
        "size": {"type": "score", "criteria": ["küçük", "orta", {"büyük": 3}]},
    }
    found = decide(model, questions=questions)
    listed = {"separator": "\n- "}
    meant = {"evet": "on yedi eder", "hayır": None}
    yes = model.choose("On iki artı beş.\n\nDoğru mu?\n- {options}", meant, **listed)
    assert found["answers"]["is"] == {"type": "noul", "noul": pytest.approx(yes.probabilities[0])}
    choice = model.choose(
        'On iki artı beş.\n\n{"soru": "kaç"}\n- {options}', {"on yedi": None, "on altı": '["x", 1]'}, **listed
    )
    expected = dict(zip(choice.options, choice.probabilities.tolist(), strict=True))
    assert found["answers"]["sum"]["probabilities"] == pytest.approx(expected)
    assert found["answers"]["sum"]["choice"] == choice.best
    assert found["answers"]["sum"]["confidence"] == pytest.approx(choice.confidence)
    scale = model.scale("On iki artı beş.\n\n- {options}", ["küçük", "orta", '{"büyük": 3}'], **listed)
    size = found["answers"]["size"]
    assert size["score"] == pytest.approx(scale.mean)
    assert size["legend"] == {"0": "küçük", "1": "orta", "2": '{"büyük": 3}'}
    assert size["probabilities"] == pytest.approx({str(i): p for i, p in enumerate(scale.probabilities.tolist())})
    assert found.keys() == {"model", "answers", "usage"}
    tokens = sum(one.scores[0].context_tokens for one in (yes, choice, scale.choice))
    assert found["usage"] == {"input_tokens": tokens, "output_tokens": 0}


def test_what_a_question_holds_without_a_meaning_is_named(model):
    questions = {
        "büyük": {"type": "noul", "weight": 2, "criteria": {"true": "x", "maybe": "y"}, "id": None},
        "b": {"type": "score", "criteria": ["a", "b"], "options": [], "weight": 1},
        "c": {"type": "choice", "criteria": {"maybe": None}},
    }
    answer = post(model, "/v1/systemone", {"state": "x", "questions": questions, "trace": 1})
    assert answer.headers["x-ignored"] == "questions.criteria.maybe, questions.options, questions.weight, trace"
    assert "x-ignored" not in post(model, "/v1/systemone", {"state": "x", "questions": {"c": questions["c"]}}).headers


def test_questions_share_passes(model):
    def asked(count):
        counted = Counted(model.forward)
        several = {f"q{n}": {"type": "noul", "instructions": f"Soru {n}"} for n in range(count)}
        own = Diffutron(model.bundle, model.tokenizer, counted)
        return decide(own, questions=several)["answers"], counted.passes

    assert model.forward.batch_invariant
    (answers, passes), (first, alone) = asked(4), asked(1)
    assert (len(answers), passes) == (4, alone)
    assert answers["q0"]["noul"] == pytest.approx(first["q0"]["noul"], rel=1e-4)


def test_debias_averages_over_orders_and_leaves_scales_alone(model):
    def asked(names):
        questions = {"sum": {"type": "choice", "criteria": dict.fromkeys(names)}}
        return decide(model, questions=questions, debias=True)["answers"]["sum"]["probabilities"]

    assert asked(SUMS) == pytest.approx(asked(SUMS[::-1]))
    levels = {"size": {"type": "score", "criteria": SUMS}}
    assert decide(model, questions=levels, debias=True) == decide(model, questions=levels)


@pytest.mark.parametrize(
    ("questions", "code"),
    [
        ({}, "invalid_value"),
        ({str(n): {"type": "noul"} for n in range(65)}, "invalid_value"),
        ({"x": {"type": "box"}}, "invalid_value"),
        ({"x": {"type": "choice", "criteria": {}}}, "invalid_value"),
        ({"x": {"type": "choice", "criteria": {str(n): None for n in range(256)}}}, "invalid_value"),
        ({"x": {"type": "choice", "criteria": {" ": None}}}, "invalid_value"),
        ({"x": {"type": "choice", "criteria": {"a": None, "a ": None}}}, "invalid_value"),
        ({"x": {"type": "score", "criteria": ["a", "a"]}}, "invalid_value"),
        ({"x": {"type": "noul", "instructions": "{options}"}}, "invalid_value"),
        ({"x": {"type": "noul", "instructions": "[Answer]"}}, "template_tags"),
        ({"x": {"type": "choice", "criteria": {"[/Answer]": None}}}, "template_tags"),
        ({"x": {"type": "noul", "instructions": "söz " * 300}}, "context_length_exceeded"),
        ({"x": {"type": "noul", "instructions": "söz " * 200_000}}, "context_length_exceeded"),
        ({"x": {"type": "choice", "criteria": {"x" * 900_000: None}}}, "too_many_passes"),
        (
            {str(n): {"type": "choice", "criteria": {str(i): None for i in range(40)}} for n in range(40)},
            "too_many_passes",
        ),
    ],
)
def test_what_a_decision_refuses(model, questions, code):
    assert decide(model, 400, questions=questions)["error"]["code"] == code


@pytest.mark.parametrize(
    "wrong", [{"type": "score", "criteria": ["a", "a"]}, {"type": "noul", "instructions": "{options}"}]
)
def test_an_error_names_its_question(model, wrong):
    error = decide(model, 400, questions={"iyi": {"type": "noul"}, "kötü": wrong})["error"]
    assert error["message"].startswith("question 'kötü': ")
    assert error["param"] == "questions"


def test_as_many_answers_as_a_question_may_have_are_not_too_many(model):
    question = ChoiceQuestion(criteria={f"seçenek {n}": None for n in range(MOST_OPTIONS)})
    assert put("x", question, debias=False).most_passes(model) <= Settings().max_passes


def test_the_settings_bound_the_passes(model):
    questions = {"x": {"type": "noul"}}
    assert decide(model, 400, {"max_passes": 5}, questions=questions)["error"]["code"] == "too_many_passes"
    assert decide(model, 200, {"max_passes": 100}, questions=questions)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/systemone"])
def test_who_hangs_up_has_no_more_passes_made(held, path):
    passes, model = held
    bodies = {
        "/v1/score": {"text": "on yedi " * 10},
        "/v1/systemone": {"state": "x", "questions": {str(n): {"type": "noul"} for n in range(20)}},
    }

    async def hanging_up():
        async with serving(model) as client:
            gone = asyncio.Event()
            task = asyncio.ensure_future(asked(client._transport.app, bodies[path], gone, path))
            await passes.in_pass(1)
            passes.let_go(1)
            await passes.in_pass(2)
            gone.set()
            await task
            passes.let_go()
            await until(lambda: gauge(client, "running") == 0)
            return client.service.idle, client.service.metrics.text().decode()

    idle, metrics = asyncio.run(hanging_up())
    assert idle
    assert len(passes.passes) == 2
    assert 'diffutron_requests_total{end="gone"} 1.0' in metrics


def test_a_late_score_is_told_so(held):
    _, model = held
    answer = post(model, "/v1/score", {"text": "on yedi"}, deadline=0.05)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deadline_exceeded")


def test_scores_and_chats_get_the_same_answers_beside_each_other(model):
    async def several():
        async with serving(model) as client:
            chat = {"messages": [{"role": "user", "content": QUESTION}], "steps": 8, "max_tokens": 16}
            bodies = [("/v1/chat/completions", chat), ("/v1/score", {"text": SUMS, "context": QUESTION})] * 3
            answers = await asyncio.gather(*(client.post(path, json=body) for path, body in bodies))
            return [answer.json() for answer in answers]

    chat, scores = model.generate(QUESTION, steps=8, max_new_tokens=16), finished(model.scoring(SUMS, QUESTION))
    for answer in asyncio.run(several()):
        if "choices" in answer:
            assert answer["choices"][0]["message"]["content"] == chat
        else:
            assert [one["logprob"] for one in answer["scores"]] == [one.logprob for one in scores]
