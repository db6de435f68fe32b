"""lm-evaluation-harness on this package's model: its results are what a straight computation gives, without traps."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from diffutron_ort import Diffutron
from diffutron_ort.cli.main import main
from diffutron_ort.errors import DiffutronWarning, InputError, OptionError
from diffutron_ort.integrations.lm_eval.fitting import Fit, Fits
from diffutron_ort.integrations.lm_eval.generation import generation_options
from diffutron_ort.integrations.lm_eval.sources import PHENOMENA, SOURCES
from diffutron_ort.text.tokenizer import Tokenizer
from tests.fakes import MASK

NANO = Path(__file__).parents[2] / "models" / "nano"
QUESTION = "On iki artı beş kaç eder?"
ASKED = f"[Question]\n{QUESTION}\n[/Question]\n\n[Answer]\n"
needs_lm_eval = pytest.mark.eval

os.environ.setdefault("TQDM_DISABLE", "1")  # before lm-eval is imported, as the command does


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """The files of `models/nano/tasks.py`, twelve rows each."""
    folder = tmp_path_factory.mktemp("rows")
    command = [sys.executable, str(NANO / "tasks.py"), "--out", str(folder), "--count", "12"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def adapter(model):
    """Makes lm-eval's model of nano."""
    from diffutron_ort.integrations.lm_eval import DiffutronLM

    return lambda **options: DiffutronLM(options.pop("model", model), **options)


def request(*arguments, task="a task", document=0):
    return SimpleNamespace(args=arguments, task_name=task, doc_id=document)


def read(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]


class Watched:
    """A model that remembers the canvases it was given."""

    def __init__(self, forward):
        self._forward, self.canvases = forward, []
        self.batch_invariant = forward.batch_invariant

    def __call__(self, batch):
        lengths = (batch.position_ids >= 0).sum(axis=1)
        self.canvases += [ids[:length].tolist() for ids, length in zip(batch.input_ids, lengths, strict=True)]
        return self._forward(batch)


def watched(model):
    forward = Watched(model.forward)
    return Diffutron(model.bundle, model.tokenizer, forward), forward


# What a task file asks, by hand: the prompt, the continuations, and which of them is right.
PASSAGE = {f"mc_answer{i}": text for i, text in enumerate(("bir", "iki", "üç", "dört"), 1)}
PAIR = 'Aşağıda iki cümle verilmektedir:\n\nCümle 1: "a"\nCümle 2: "b"\n\nBu iki cümle '
ASKING = [
    (
        "belebele_tr",
        {"flores_passage": "Metin.", "question": " Kaç? ", **PASSAGE, "correct_answer_num": "3"},
        "P: Metin.\nQ: Kaç?\nA: bir\nB: iki\nC: üç\nD: dört\nAnswer:",
        [" A", " B", " C", " D"],
        2,
    ),
    (
        "exams_tr",
        {"question": {"stem": "Kaç?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}}, "answerKey": " B"},
        "Kaç?",
        [" x", " y"],
        1,
    ),
    (
        "ironytr",
        {"text": "Ne güzel.", "label": 1},
        "Cümle: Ne güzel.\nSoru: Bu cümlede ironi var mı?\n",
        [" Hayır", " Evet"],
        1,
    ),
    (
        "news_cat",
        {"text": "Maç.", "label": "health"},
        "Cümle: Maç.\nSoru: Bu cümlenin konusu nedir?\n Cevap:",
        [" spor", " magazin", " siyaset", " sağlık", " ekonomi"],
        3,
    ),
    (
        "mnli_tr",
        {"premise": "a", "hypothesis": "b", "label": 2},
        f"{PAIR}arasındaki ilişki nedir:",
        [" TUTARLI", " ALAKASIZ", " ÇELİŞKİLİ"],
        2,
    ),
    (
        "sts_tr",
        {"sentence1": "a", "sentence2": "b", "score": 2.5},
        f"{PAIR}arasında ne kadar benzerlik vardır:",
        [
            f" {level}"
            for level in (
                "Benzerlik Yok",
                "Düşük Benzerlik",
                "Orta Benzerlik",
                "Yüksek Benzerlik",
                "Çok Yüksek Benzerlik",
                "Mantıksal Olarak Aynı",
            )
        ],
        3,
    ),
    (
        "xcopa_tr",
        {"premise": "Yağdı.", "question": "cause", "choice1": "İçti.", "choice2": "Islandı.", "label": 0},
        "Yağdı çünkü",
        [" i\u0307çti.", " islandı."],
        0,
    ),
    (
        "xcopa_tr_turkish",
        {"premise": "Yağdı.", "question": "effect", "choice1": "İçti.", "choice2": "Islandı.", "label": 1},
        "Yağdı bu yüzden",
        [" içti.", " ıslandı."],
        1,
    ),
    ("turblimp_binding", {"sentence_good": "İyi.", "sentence_bad": "Kötü."}, "", ["İyi.", "Kötü."], 0),
]


@needs_lm_eval
@pytest.mark.parametrize(("task", "row", "prompt", "continuations", "right"), ASKING)
def test_a_task_asks_what_cetvel_asks(task, row, prompt, continuations, right, tmp_path):
    from diffutron_ort.integrations.lm_eval.evaluation import _loaded

    source = task.removesuffix("_turkish")
    (tmp_path / SOURCES[source].file).write_text(json.dumps(row | {"more": None}, ensure_ascii=False), "utf-8")
    found = _loaded([task], None, str(tmp_path))["tasks"][task]
    found.build_all_requests(rank=0, world_size=1)
    assert [each.args for each in found.instances] == [(prompt, text) for text in continuations]
    assert found.doc_to_target(found.eval_docs[0]) == right
    f1 = {"f1"} if task in ("ironytr", "news_cat") else set()
    assert set(found.aggregation()) == ({"acc"} if "xcopa" in task else {"acc", "acc_norm"} | f1)


@needs_lm_eval
def test_the_tasks_that_lm_eval_has_too_are_the_same():
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    from diffutron_ort.integrations.lm_eval.evaluation import TASKS

    theirs = Path(lm_eval.tasks.__file__).parent
    pairs = [("belebele/belebele_tur_Latn", "cetvel/belebele_tr")]
    for other, own in [*pairs, *((f"turblimp/{name}", f"turblimp/{name}") for name in PHENOMENA)]:
        expected, found = load_yaml(theirs / f"{other}.yaml"), load_yaml(TASKS / f"{own}.yaml")
        for key in ("doc_to_text", "doc_to_choice", "doc_to_target", "target_delimiter", "metric_list"):
            assert str(found.get(key)).replace(" ", "") == str(expected.get(key)).replace(" ", ""), (own, key)
        source = SOURCES[found["dataset_kwargs"]["source"]]
        assert (source.hub, source.subset, source.split) == (
            expected["dataset_path"],
            expected["dataset_name"],
            expected["test_split"],
        )
    core = load_yaml(theirs / "turblimp" / "turblimp_group.yaml")
    assert load_yaml(TASKS / "turblimp" / "turblimp_core.yaml")["task"] == core["task"]
    xcopa, ours = load_yaml(theirs / "xcopa" / "default_tr.yaml"), load_yaml(TASKS / "cetvel" / "xcopa_tr.yaml")
    row = {"premise": " Su içti. ", "question": "effect", "choice1": "Isındı.", "choice2": "İyi oldu."}
    for key in ("doc_to_text", "doc_to_choice"):
        assert xcopa[key](row) == ours[key](row)


def computed(model, asked, **how):
    """Return accuracy and normalised accuracy of questions, each a prompt, its answers, and which is right."""
    texts = [answer for _, answers, _ in asked for answer in answers]
    contexts = [prompt for prompt, answers, _ in asked for _ in answers]
    scores = iter(model.score(texts, contexts, **how))
    plain, normal = [], []
    for _, answers, right in asked:
        sums = [next(scores).logprob for _ in answers]
        plain.append(max(range(len(sums)), key=sums.__getitem__) == right)
        normal.append(max(range(len(sums)), key=lambda i: sums[i] / len(answers[i].strip())) == right)
    return sum(plain) / len(plain), sum(normal) / len(normal)


@needs_lm_eval
@pytest.mark.parametrize("method", ["policy", "elbo", "pll", "pll_word_l2r"])
@pytest.mark.parametrize("template", [False, True])
def test_the_results_are_those_of_a_straight_computation(method, template, model, rows):
    from diffutron_ort.integrations.lm_eval import evaluate

    how = {"method": method, "samples": 8, "seed": 3}
    report = evaluate(model, ["exams_tr"], data=rows, apply_chat_template=template, **how)
    asked = []
    for row in read(rows, "exams_tr"):
        stem, choices = row["question"]["stem"], row["question"]["choices"]
        prompt = f"[Question]\n{stem}\n[/Question]\n\n[Answer]\n" if template else stem
        texts = choices["text"] if template else [f" {text}" for text in choices["text"]]
        asked.append((prompt, texts, choices["label"].index(row["answerKey"])))
    found = report.results["results"]["exams_tr"]
    assert (found["acc,none"], found["acc_norm,none"]) == computed(model, asked, **how)
    assert report.fits == {"exams_tr": Fit(12, 0, 0)}


@needs_lm_eval
@pytest.mark.parametrize("method", ["policy", "elbo"])
def test_the_likelihoods_do_not_hang_on_the_batches(method, model, adapter):
    texts = [f"Türkiye'nin başkenti {city} şehridir." for city in ("Ankara", "Roma", "Paris", "Şam", "Viyana")]
    how = {"method": method, "samples": 4, "seed": 2**64 - 2}
    expected = [score.logprob for score in model.score(texts, ASKED, **how)]
    for batch_size in (2, 64):
        lm = adapter(**how, batch_size=batch_size, check_greedy=False)
        found = [logprob for logprob, _ in lm.loglikelihood([request(ASKED, text) for text in texts])]
        assert found == pytest.approx(expected, abs=1e-5)


@needs_lm_eval
def test_nano_solves_what_it_knows_and_the_metrics_of_groups_and_f1_are_right(model, rows):
    from diffutron_ort.integrations.lm_eval import evaluate

    known = evaluate(model, ["nano_tr"], data=rows, include=NANO / "evaluation", apply_chat_template=True, limit=5)
    found = known.results["results"]
    accuracies = [each["acc,none"] for name, each in found.items() if name != "nano_tr"]
    assert len(accuracies) == 7
    assert min(accuracies) > 0.8
    assert found["nano_tr"]["acc,none"] == pytest.approx(np.mean(accuracies))
    assert known.table()[-1][:3] == ("nano_tr", "acc", f"{np.mean(accuracies):.4f}")
    alien = evaluate(model, ["news_cat"], data=rows)
    labels = ("sport", "magazine", "politics", "health", "economy")
    words = ("spor", "magazin", "siyaset", "sağlık", "ekonomi")
    right, chosen = [], []
    for row in read(rows, "news_cat"):
        context = f"Cümle: {row['text']}\nSoru: Bu cümlenin konusu nedir?\n Cevap:"
        sums = [score.logprob for score in model.score([f" {word}" for word in words], context)]
        right.append(labels.index(row["label"]))
        chosen.append(int(np.argmax(sums)))
    assert alien.results["results"]["news_cat"]["f1,none"] == pytest.approx(f1(right, chosen))


def f1(right, chosen):
    """The mean of each class's F1."""
    found = []
    for label in {*right, *chosen}:
        both = sum(a == b == label for a, b in zip(right, chosen, strict=True))
        found.append(2 * both / (right.count(label) + chosen.count(label)))
    return sum(found) / len(found)


@needs_lm_eval
def test_nano_tells_true_sentences_from_false_ones(model, rows):
    from diffutron_ort.integrations.lm_eval import evaluate

    report = evaluate(model, ["nano_pairs"], method="pll", data=rows, include=NANO / "evaluation")
    asked = [("", [row["sentence_good"], row["sentence_bad"]], 0) for row in read(rows, "nano_pairs")]
    assert report.results["results"]["nano_pairs"]["acc,none"] == computed(model, asked, method="pll")[0] > 0.9


@needs_lm_eval
def test_a_token_across_the_join_belongs_to_the_continuation(model, adapter):
    pairs = [
        ("Türkiye'nin başkenti Anka", "ra şehridir."),
        ("On ik", "i artı beş"),
        (ASKED, "on yedi"),
        ("", "on yedi"),
    ]
    tokenizer = model.tokenizer
    alone, whole = tokenizer.encode(pairs[0][0]), tokenizer.encode("".join(pairs[0]))
    assert whole[: len(alone)] != alone  # or this tests nothing
    found = adapter(check_greedy=False).loglikelihood([request(*pair) for pair in pairs])
    for (context, text), (logprob, _) in zip(pairs, found, strict=True):
        assert logprob == pytest.approx(model.score(text, context).logprob, abs=1e-6)
    before = next(i for i, token in enumerate(alone) if token != whole[i])
    ids = np.array(whole)
    assert found[0][0] == pytest.approx(model.score(ids[before:], ids[:before]).logprob, abs=1e-6)


@needs_lm_eval
def test_an_empty_continuation_is_certain(adapter):
    requests = [request(ASKED, ""), request(ASKED, "on yedi"), request("", "")]
    first, second, third = adapter().loglikelihood(requests)
    assert first == third == (0.0, True)
    assert second[0] < 0
    assert adapter().loglikelihood_rolling([request("")]) == [0.0]


@needs_lm_eval
@pytest.mark.parametrize("method", ["policy", "elbo", "pll"])
def test_a_mask_that_is_typed_is_text(method, model, adapter):
    seen, forward = watched(model)
    text, context = "on <mask> yedi", "iki <mask> <mask> artı"
    [(logprob, _)] = adapter(model=seen, method=method, samples=4, check_greedy=False).loglikelihood(
        [request(context, text)]
    )
    assert np.isfinite(logprob)
    length = model.score(text, context).tokens
    start = len(model.tokenizer.encode(context + text)) - length
    assert all(MASK not in canvas[:start] for canvas in forward.canvases)
    assert max(canvas.count(MASK) for canvas in forward.canvases) <= length


@needs_lm_eval
def test_a_tokenizer_that_appends_an_end_token_shifts_nothing(model, adapter):
    content = json.loads((model.bundle.folder / "tokenizer.json").read_text("utf-8"))
    ends = {
        "<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]},
        "<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]},
    }
    single = [
        {"SpecialToken": {"id": "<bos>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<eos>", "type_id": 0}},
    ]
    content["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": ends}
    tokenizer = Tokenizer(json.dumps(content).encode(), "tokenizer.json", model.bundle.vocab_size, model.bundle.special)
    other = Diffutron(model.bundle, tokenizer, model.forward)
    choices = [request(f"{QUESTION} Cevap:", f" {letter}") for letter in ("on", "iki", "yedi")]
    found = adapter(model=other).loglikelihood(choices)
    assert found == adapter().loglikelihood(choices)
    assert len({logprob for logprob, _ in found}) == 3  # dllm's harness scores `<eos>` for each


@needs_lm_eval
def test_a_prompt_that_does_not_fit_loses_its_beginning_and_is_told(model, adapter, tmp_path):
    room = model.bundle.context_length
    long, short = "elma " * room + QUESTION, QUESTION
    lm = adapter()
    requests = [
        request(long, " on", document=0),
        request(long, " on yedi", document=0),
        request(short, " on", document=1),
    ]
    (first, greedy), *_ = lm.loglikelihood(requests)
    ids = np.array(model.tokenizer.encode(long + " on"))
    assert first == pytest.approx(model.score(ids[-1:], ids[-room:-1]).logprob, abs=1e-6)
    assert greedy is False
    tokens = len(model.tokenizer.encode(long + " on yedi")) - room
    assert lm.fits.of("a task") == Fit(2, 1, tokens)
    question = {"stem": long, "choices": {"text": ["on", "yedi"], "label": ["A", "B"]}}
    others = [{"question": question | {"stem": short}, "answerKey": "A"}] * 3
    written = [json.dumps(row) for row in [{"question": question, "answerKey": "A"}, *others]]
    (tmp_path / "exams_tr.jsonl").write_text("\n".join(written), "utf-8")
    from diffutron_ort.integrations.lm_eval import evaluate

    report = evaluate(model, ["exams_tr"], data=tmp_path)
    assert report.table()[1][-2:] == ("4", "1 (25.0%)")
    assert "1 of 4 prompts (25.0%) did not fit" in report.summary()[0]
    assert report.as_json()["did_not_fit"]["exams_tr"]["share"] == 0.25


@needs_lm_eval
def test_a_text_is_greedy_if_the_sampler_writes_it(model, adapter):
    texts = ["on yedi", "on sekiz", "yedi", "on yedi\n[/Answer]"]
    found = adapter().loglikelihood([request(ASKED, text) for text in texts])
    for text, (_, greedy) in zip(texts, found, strict=True):
        ids = model.tokenizer.encode(ASKED + text)[len(model.tokenizer.encode(ASKED)) :]
        sequence = model.raw_sequence(ASKED, temperature=0.0, max_new_tokens=len(ids))
        while not sequence.finished:
            [step] = model.engine.step([sequence])
        assert greedy == (step.ids[-len(ids) :].tolist() == ids), text
    assert [greedy for _, greedy in found][:2] == [True, False]
    assert adapter(check_greedy=False).loglikelihood([request(ASKED, "on yedi")])[0][1] is False


@needs_lm_eval
def test_rolling_takes_windows_where_a_text_is_long(model, adapter):
    text = "Türkiye'nin başkenti Ankara şehridir. " * 45
    assert len(model.tokenizer.encode(text)) > model.bundle.context_length
    how = {"method": "elbo", "samples": 4, "stride": 64, "seed": 5}
    found = adapter(**how).loglikelihood_rolling([request(text), request("kısa")])
    assert found == pytest.approx([score.logprob for score in model.score([text, "kısa"], **how)], abs=1e-4)


@needs_lm_eval
def test_an_answer_has_as_many_tokens_as_the_task_says(model, adapter):
    seen, forward = watched(model)
    lm = adapter(model=seen)
    for tokens in (3, 24):
        forward.canvases.clear()
        [text] = lm.generate_until([request(ASKED, {"until": ["\n"], "max_gen_toks": tokens})])
        assert forward.canvases[0].count(MASK) == tokens
        assert text.strip().startswith("on")
    assert text == "on yedi"
    forward.canvases.clear()
    lm.generate_until([request(ASKED, {"until": []})])
    assert forward.canvases[0].count(MASK) == model.config().max_new_tokens
    with pytest.raises(OptionError, match="max_gen_toks=256 leaves no room"):
        lm.generate_until([request(ASKED, {"max_gen_toks": 256})])
    forward.canvases.clear()
    lm.generate_until([request(ASKED, {"max_gen_toks": 250}, task="cut")])
    assert len(forward.canvases[0]) == 256
    assert lm.fits.of("cut") == Fit(1, 1, len(model.tokenizer.encode(ASKED)) - 6)


@needs_lm_eval
@pytest.mark.parametrize(
    ("until", "text"),
    [
        (["yedi"], "on "),
        (["on yedi", "n"], ""),  # the second is complete first
        (["n", "on yedi"], ""),
        (["on yediler", "n"], "o"),  # the first never comes
        (["e", "yed", "di"], "on "),
        (["y", "yedi"], "on "),
        (["zz"], "on yedi"),
    ],
)
def test_an_answer_is_cut_where_the_first_stop_begins(model, adapter, until, text):
    from lm_eval.models.utils import postprocess_generated_text

    whole = model.generate(QUESTION, steps=24, max_new_tokens=24, temperature=0)
    assert whole == "on yedi"
    [found] = adapter().generate_until([request(ASKED, {"until": until, "max_gen_toks": 24})])
    by_order = [postprocess_generated_text(whole, list(order), None) for order in permutations(until)]
    assert found == text.strip() == min(by_order, key=len).strip()


@needs_lm_eval
def test_what_is_sampled_has_a_seed(adapter):
    asked = request("Zıddını", {"do_sample": True, "temperature": 3.0, "max_gen_toks": 8, "until": []})
    greedy = request("Zıddını", {"do_sample": False, "temperature": 3.0, "max_gen_toks": 8, "until": []})
    first = adapter(seed=1).generate_until([asked, greedy, asked, greedy])
    assert first == adapter(seed=1, batch_size=1).generate_until([asked, greedy, asked, greedy])
    assert first[0] != first[2]  # another sample each time
    assert first[1] == first[3]
    assert adapter(seed=2).generate_until([asked])[0] != first[0]
    assert adapter(seed=2).generate_until([replace_seed(asked, 1)])[0] == first[0]


def replace_seed(asked, seed):
    prompt, given = asked.args
    return request(prompt, given | {"seed": seed})


@needs_lm_eval
def test_the_chat_template_is_the_models(model, adapter):
    lm = adapter()
    user = {"role": "user", "content": QUESTION}
    assert lm.apply_chat_template([user]) == ASKED
    begun = [user, {"role": "assistant", "content": "on"}]
    assert lm.apply_chat_template(begun, add_generation_prompt=False) == f"{ASKED}on"
    system = {"role": "system", "content": "Kısa."}
    shots = [system, user, {"role": "assistant", "content": "on yedi"}, user]
    assert lm.apply_chat_template(shots).startswith("[SYS]\nKısa.\n[/SYS]\n\n[Question]")
    with pytest.raises(OptionError, match="without the chat template"):
        lm.apply_chat_template([{"role": "user", "content": ""}])
    assert "[Question]" in lm.chat_template(True)
    other = replace(model.bundle, chat_template={**model.bundle.chat_template, "generation": "[Cevap]\n"})
    assert adapter(model=Diffutron(other, model.tokenizer, model.forward)).tokenizer_name != lm.tokenizer_name


@needs_lm_eval
def test_lm_eval_finds_the_model_by_its_name(model):
    from lm_eval.api.registry import get_model

    from diffutron_ort.integrations.lm_eval import DiffutronLM

    assert get_model("diffutron-ort") is DiffutronLM
    lm = DiffutronLM.create_from_arg_string(f"model={model.bundle.folder},method=pll,samples=8", {"batch_size": "4"})
    assert lm.get_model_info()["method"] == "pll"
    for wrong in ({"method": "pl"}, {"samples": 0, "method": "elbo"}, {"batch_size": 0}, {"steps": 0}):
        with pytest.raises(OptionError):
            DiffutronLM(model, **wrong)


@needs_lm_eval
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", r"ironytr.jsonl has no rows: each line is a JSON object with text \(text\), label \(0 or 1\)"),
        ("[1]", "ironytr.jsonl:2 is .*must be an object with"),
        ("{", "ironytr.jsonl:2 is not a line of JSON"),
        ('{"text": "a"}', "ironytr.jsonl:2: there is no label; it must be 0 or 1"),
        ('{"text": " ", "label": 0}', "ironytr.jsonl:2: text is ' '; it must be text"),
        ('{"text": "a", "label": "1"}', "ironytr.jsonl:2: label is '1'"),
        ('{"text": "a", "label": true}', "ironytr.jsonl:2: label is True"),
        ('{"text": "\\ud800", "label": 0}', "ironytr.jsonl:2 is not a line of JSON: .*surrogates not allowed"),
        (b"\xff", "ironytr.jsonl:2 is not a line of JSON: is not UTF-8"),
        (None, r"ironytr.jsonl is missing; --data is a folder .* \(on the Hub: mcemilg/IronyTR\); .* has none of"),
    ],
)
def test_a_row_that_is_not_what_it_should_be_is_named(line, message, tmp_path):
    from diffutron_ort.integrations.lm_eval.rows import load

    if line is not None:
        (tmp_path / "ironytr.jsonl").write_bytes(b"\n" + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(InputError, match=message):
        load("ironytr", str(tmp_path))


@needs_lm_eval
def test_without_a_folder_rows_come_from_the_hub(monkeypatch):
    import datasets

    from diffutron_ort.integrations.lm_eval.rows import load

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *where, **how: asked.append((*where, how)))
    load("mnli_tr")
    assert asked == [("boun-tabi/nli_tr", "multinli_tr", {"split": "validation_matched"})]
    with pytest.raises(InputError, match="is on no hub"):
        load("nano_pairs")


@needs_lm_eval
def test_the_command_prints_a_table_and_writes_json(rows, tmp_path, capsys):
    out = tmp_path / "found.json"
    command = ["eval", str(NANO), "--data", str(rows), "--tasks", "exams_tr, xcopa_tr", "--limit", "2"]
    assert main([*command, "--method", "elbo", "--samples", "4", "--output", str(out)]) == 0
    streams = capsys.readouterr()
    head, first, *_ = streams.out.splitlines()
    assert head.split() == ["task", "metric", "value", "±", "stderr", "documents", "did", "not", "fit"]
    assert first.split()[:2] == ["exams_tr", "acc"]
    assert "method elbo, seed 0, samples 4" in streams.out
    written = json.loads(out.read_text("utf-8"))
    assert written["settings"]["samples"] == 4
    assert written["n-samples"]["xcopa_tr"] == {"original": 12, "effective": 2}
    assert written["did_not_fit"]["xcopa_tr"] == {"documents": 2, "cut": 0, "tokens": 0, "share": 0.0}
    assert main(["eval", "--list"]) == 0
    assert {"cetvel_tr", *SOURCES} - {"nano_pairs"} <= set(capsys.readouterr().out.split())


@needs_lm_eval
@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ([], 2, "give the tasks: --tasks cetvel_tr, for example"),
        (["--tasks", ","], 2, "give the tasks"),
        (["--tasks", "exams_tr", "--limit", "0"], 2, "--limit 0: must be a finite number above 0"),
        (["--tasks", "exams_tr", "--limit", "nan"], 2, "--limit nan: must be"),
        (["--tasks", "exams_tr", "--limit", "inf"], 2, "--limit inf: must be"),
        (["--tasks", "exams_tr", "--batch", "0"], 2, "batch_size=0: must be an integer from 1"),
        (["--tasks", "exams_tr", "--method", "pl"], 2, "method='pl': must be one of policy"),
        (["--tasks", "exams_tr", "--samples", "0", "--method", "elbo"], 2, "samples=0: must be"),
        (["--tasks", "exams_tr", "--include", "nowhere"], 2, "must be a folder with task files"),
        (["--tasks", "exams_tr", "--output", "nowhere/x.json"], 1, "nowhere/x.json: No such file"),
        (["--tasks", "exams_tr,cetvel_tr"], 2, "Duplicate task 'exams_tr'"),
        (["--tasks", "exams_tr", "--data", "nowhere"], 1, "nowhere/exams_tr.jsonl is missing"),
        (["--tasks", "turblimp_core"], 1, "turblimp_anaphor_agreement.jsonl is missing"),
        (["--tasks", "nano_pairs", "--apply-chat-template"], 2, "a task has an empty prompt"),
    ],
)
def test_what_cannot_be_evaluated_gets_one_line(flags, code, message, rows, capsys):
    usual = ["--data", str(rows), *(["--include", str(NANO / "evaluation")] if "--include" not in flags else [])]
    assert main(["eval", str(NANO), *usual, *flags]) == code
    streams = capsys.readouterr()
    assert message in streams.err
    assert not streams.out
    assert streams.err.count("\n") == 1


@needs_lm_eval
def test_a_task_that_is_misspelt_is_suggested(rows, capsys):
    assert main(["eval", str(NANO), "--data", str(rows), "--tasks", "belebele_tur"]) == 2
    assert "did you mean belebele_tur_Latn?" in capsys.readouterr().err


def test_without_lm_eval_the_extra_is_named(monkeypatch, capsys):
    for name in list(sys.modules):
        if name.partition(".")[0] == "lm_eval" or name.startswith("diffutron_ort.integrations.lm_eval."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["eval", "--tasks", "exams_tr"]) == 1
    assert "pip install 'diffutron-ort[eval]'" in capsys.readouterr().err


def test_a_task_says_how_an_answer_is_generated():
    defaults = {"max_new_tokens": 64, "seed": 7}
    assert generation_options({}, defaults) == defaults | {"temperature": 0.0, "stop": (), "steps": 64}
    given = {"until": "\n", "max_gen_toks": 8, "temperature": 0.5, "seed": 1, "block_length": 4}
    asked = {"max_new_tokens": 8, "steps": 8, "temperature": 0.5, "stop": ("\n",), "seed": 1, "block_length": 4}
    assert generation_options(given, defaults) == asked
    assert generation_options({"do_sample": True}, defaults)["temperature"] == 1.0
    assert generation_options({"do_sample": False, "temperature": 0.5}, defaults)["temperature"] == 0.0
    assert generation_options({}, defaults | {"steps": 16})["steps"] == 16
    with pytest.warns(DiffutronWarning, match="'top_p': a diffusion sampler has no such option"):
        generation_options({"top_p": 0.9}, defaults)
    for wrong in ({"until": [1]}, {"until": 3}, {"max_gen_toks": 0}, {"max_gen_toks": "8"}, {"max_gen_toks": True}):
        with pytest.raises(OptionError):
            generation_options(wrong, defaults)


def test_a_document_is_cut_if_one_of_its_prompts_is():
    fits = Fits()
    for document, tokens in ((0, 0), (0, 3), (0, 1), (1, 0)):
        fits.note(request(document=document), tokens)
    assert fits.of("a task") == Fit(2, 1, 3)
    assert fits.of("a task").share == 0.5
    assert fits.of("another") == Fit(0, 0, 0)


OWN_TASKS = """
task: {name}
custom_dataset: !function diffutron_ort.integrations.lm_eval.rows.load
dataset_kwargs: {{source: exams_tr}}
test_split: test
output_type: {name}
doc_to_text: "{{{{question.stem}}}}"
doc_to_target: "{{{{question.choices.text[question.choices.label.index(answerKey)]}}}}"
metric_list:
{metrics}
"""


@needs_lm_eval
def test_tasks_of_the_other_kinds_run_too(model, rows, tmp_path):
    from diffutron_ort.integrations.lm_eval import evaluate

    kinds = {
        "generate_until": '  - {metric: exact_match}\ngeneration_kwargs: {until: ["[/Answer]"], max_gen_toks: 32}',
        "loglikelihood": "  - {metric: acc}\n  - {metric: perplexity}",
        "loglikelihood_rolling": "  - {metric: bits_per_byte}",
    }
    for name, metrics in kinds.items():
        text = OWN_TASKS.format(name=name, metrics=metrics)
        if name == "loglikelihood_rolling":
            text = text.replace('doc_to_text: "{{question.stem}}"', 'doc_to_text: ""')
        (tmp_path / f"{name}.yaml").write_text(text, "utf-8")
    how = {"data": rows, "include": tmp_path}
    asked = evaluate(model, ["generate_until", "loglikelihood"], apply_chat_template=True, **how)
    found = asked.results["results"]
    asked_rows = read(rows, "exams_tr")
    right = [
        row["question"]["choices"]["text"][row["question"]["choices"]["label"].index(row["answerKey"])]
        for row in asked_rows
    ]
    answers = model.generate([row["question"]["stem"] for row in asked_rows], temperature=0.0, max_new_tokens=32)
    exact = sum(map(str.__eq__, answers, right)) / len(right)
    assert found["generate_until"]["exact_match,none"] == exact > 0.8
    assert found["loglikelihood"]["acc,none"] > 0.8  # the sampler writes the right answer itself
    rolled = evaluate(model, ["loglikelihood_rolling"], method="pll", **how).results["results"]["loglikelihood_rolling"]
    scores = model.score(right, method="pll")
    bits = -sum(score.logprob for score in scores) / sum(score.bytes for score in scores) / np.log(2)
    assert rolled["bits_per_byte,none"] == pytest.approx(bits, rel=1e-5)
