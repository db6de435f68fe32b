"""The embedded model's exercises: Turkish, the split, determinism, and the tokenizer that reads them."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from diffutron_ort.cli.loading import KNOWS

NANO = Path(__file__).parent.parent / "models" / "nano"
sys.path.append(str(NANO))

import tokenizer as nano_tokenizer  # noqa: E402
import turkish  # noqa: E402
from exercises import KINDS, SUM, SUMS, draw, draw_from, split_of  # noqa: E402
from words import ANTONYMS, CAPITALS, DAYS, MONTHS, NOUNS  # noqa: E402

BY_WORD = {noun.word: noun for noun in NOUNS}


@pytest.fixture(scope="module")
def built():
    return nano_tokenizer.build()


def ids(built, text):
    return built.encode(text, add_special_tokens=False).ids


def questions(*arguments):
    command = [sys.executable, str(NANO / "questions.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")


@pytest.mark.parametrize(
    ("rule", "forms"),
    [
        (turkish.plural, "evler okullar kitaplar gözler saatler kalpler kuşlar şehirler kapılar gemiler"),
        (turkish.locative, "evde okulda sokakta kitapta parkta saatte kalpte ağaçta köprüde kuşta topta şehirde"),
        (turkish.ablative, "evden okuldan kitaptan sokaktan saatten kalpten arabadan sütten otobüsten yoldan"),
        (
            turkish.accusative,
            "kitabı ağacı rengi saati topu kalbi sokağı çocuğu arabayı kapıyı köprüyü kutuyu elmayı burnu ağzı şehri",
        ),
    ],
)
def test_suffixes(rule, forms):
    ours = {"".join(rule(noun)) for noun in NOUNS}
    assert {form.rpartition("/")[2] for form in forms.split()} <= ours


@pytest.mark.parametrize(
    ("word", "mine", "yours", "theirs"),
    [
        ("kitap", "kitabım", "kitabın", "kitabı"),
        ("araba", "arabam", "araban", "arabası"),
        ("göz", "gözüm", "gözün", "gözü"),
        ("saat", "saatim", "saatin", "saati"),
        ("burun", "burnum", "burnun", "burnu"),
        ("köprü", "köprüm", "köprün", "köprüsü"),
        ("top", "topum", "topun", "topu"),
        ("renk", "rengim", "rengin", "rengi"),
        ("kutu", "kutum", "kutun", "kutusu"),
    ],
)
def test_possessives(word, mine, yours, theirs):
    owners = ("benim", "senin", "onun")
    assert ["".join(turkish.possessive(BY_WORD[word], owner)) for owner in owners] == [mine, yours, theirs]


def test_words_that_keep_their_consonant():
    keeping = ("at", "et", "ip", "top", "saç", "süt", "ot", "bulut", "sepet", "market", "park", "ceket", "saat")
    assert all(BY_WORD[word].stem == word for word in keeping)


def test_softening_changes_the_last_consonant_or_drops_the_last_vowel():
    soft = {"p": "b", "ç": "c", "t": "d", "k": "ğ"}
    for noun in (noun for noun in NOUNS if noun.stem != noun.word):
        dropped = noun.word[:-2] + noun.word[-1]
        softened = noun.word[:-1] + ("g" if noun.word.endswith("nk") else soft.get(noun.word[-1], ""))
        assert noun.stem in (dropped, softened), noun


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "sıfır"), (7, "yedi"), (10, "on"), (17, "on yedi"), (40, "kırk"), (100, "yüz"), (198, "yüz doksan sekiz")],
)
def test_number_words(n, words):
    assert turkish.number(n) == words


def test_number_words_differ():
    assert len({turkish.number(n) for n in range(200)}) == 200


@pytest.mark.parametrize("n", [-1, 200])
def test_numbers_beyond_the_words_are_refused(n):
    with pytest.raises(ValueError, match=str(n)):
        turkish.number(n)


def test_turkish_case():
    assert turkish.lower("IŞIK İYİ") == "ışık iyi"
    assert turkish.upper("ışık iyi") == "IŞIK İYİ"
    assert [turkish.capitalise(word) for word in ("iki", "ısı", "üç", "")] == ["İki", "Isı", "Üç", ""]


def test_sums_are_right():
    value = {turkish.number(n): n for n in range(199)}
    for exercise in (draw("sum", Random(seed)) for seed in range(300)):
        a, b = exercise.key.removesuffix(" kaç eder?").split(" artı ")
        assert value[a] + value[b] == value[exercise.answer]
        assert turkish.lower(exercise.question) in [wording.format(a=a, b=b) for wording in SUMS]


def test_the_readme_question_is_one():
    assert SUM.format(a="on iki", b="beş") == "on iki artı beş kaç eder?"


def test_orders_and_reversals():
    value = {turkish.number(n): n for n in range(100)}
    for seed in range(200):
        order, reverse = draw("order", Random(seed)), draw("reverse", Random(seed))
        values = [value[word] for word in order.answer.split(", ")]
        first = turkish.lower(order.question).split()[0]
        assert values == sorted(values, reverse=first in ("büyükten", "azalan"))
        assert reverse.question.split(": ")[1].split(", ") == reverse.answer.split(", ")[::-1]


def test_gaps_fit():
    value = {turkish.number(n): n for n in range(100)}
    for exercise in (draw("gap", Random(seed)) for seed in range(300)):
        filled = exercise.question.split(": ")[1].replace("___", exercise.answer)
        if all(term in value for term in filled.split(", ")):
            a, b, c, d = (value[term] for term in filled.split(", "))
            assert d - c == c - b == b - a != 0


def test_days_and_months_by_hand():
    found = {}
    for kind in ("day", "month"):
        for exercise in (draw(kind, Random(seed)) for seed in range(6000)):
            found[turkish.lower(exercise.question)] = exercise.answer
    assert found["pazar gününden bir gün sonra hangi gündür?"] == "pazartesi"
    assert found["bugün salı, iki gün önce hangi gündür?"] == "pazar"
    assert found["aralık için iki ay sonra ne olur?"] == "şubat"
    assert found["bu ay ocak, bir ay önce hangi aydır?"] == "aralık"


def test_facts_have_one_answer():
    assert len(NOUNS) == len(BY_WORD)
    words = [word for pair in ANTONYMS for word in pair]
    assert len(words) == len(set(words))
    assert len({country for country, _ in CAPITALS}) == len({city for _, city in CAPITALS}) == len(CAPITALS)
    assert (len(DAYS), len(MONTHS)) == (7, 12)


def test_genitives_follow_harmony():
    for country, _ in CAPITALS:
        name, suffix = turkish.lower(country).split("'")
        assert suffix == ("n" if name[-1] in turkish.VOWELS else "") + turkish.Noun(name, name).high() + "n", country


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_has_one_answer_and_one_side(kind):
    answers, sides = {}, {}
    for seed in range(1000):
        exercise = draw(kind, Random(seed))
        question = turkish.lower(exercise.question)
        assert answers.setdefault(question, exercise.answer) == exercise.answer
        assert sides.setdefault(question, split_of(exercise.key)) == split_of(exercise.key)
        assert kind == "sum" or split_of(exercise.key) == split_of(exercise.question)


def test_the_split_is_stable_and_about_a_tenth():
    assert split_of("on iki artı beş kaç eder?") == split_of("On iki artı beş kaç eder?") == "training"
    assert split_of("İki artı üç kaç eder?") == split_of("iki artı üç kaç eder?")
    keys = [SUM.format(a=turkish.number(a), b=turkish.number(b)) for a in range(100) for b in range(100)]
    assert sum(split_of(key) == "held-out" for key in keys) == pytest.approx(1000, abs=100)


def test_a_held_out_sum_is_held_out_in_every_wording():
    keys = {
        side: {draw_from(side, "sum", Random(seed)).key for seed in range(500)} for side in ("held-out", "training")
    }
    assert not keys["held-out"] & keys["training"]


def test_questions_are_the_same_in_every_process_and_directory():
    first, second = (questions("--seed", "5", "--count", "60").stdout for _ in range(2))
    assert first == second != questions("--seed", "6", "--count", "60").stdout
    rows = [json.loads(line) for line in first.splitlines()]
    assert [list(row) for row in rows] == [["kind", "question", "answer"]] * 60
    assert {row["kind"] for row in rows} == set(KINDS)


def test_no_question_is_on_both_sides_or_comes_twice():
    sides = {}
    for split in ("held-out", "training"):
        rows = questions("--seed", "1", "--count", "260", "--split", split).stdout.splitlines()
        sides[split] = [turkish.lower(json.loads(row)["question"]) for row in rows]
    assert len(set(sides["held-out"])) == len(set(sides["training"])) == 260
    assert not set(sides["held-out"]) & set(sides["training"])


def test_beyond_what_there_is_questions_start_over_and_say_so():
    run = questions("--seed", "1", "--count", "900")
    assert len(run.stdout.splitlines()) == 900
    assert "used up" in run.stderr


def test_special_tokens_are_mmberts(built):
    assert [built.token_to_id(token) for token in ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")] == list(range(5))
    assert all(built.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))
    assert built.encode("on iki").ids == [2, *ids(built, "on iki"), 1]


def test_the_pipeline_is_mmberts(built):
    data = json.loads(built.to_str())
    assert data["normalizer"] == {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    assert data["pre_tokenizer"]["type"] == "Metaspace"
    assert data["pre_tokenizer"]["prepend_scheme"] == "always"
    assert data["pre_tokenizer"]["split"] is True
    assert [step["type"] for step in data["decoder"]["decoders"]] == ["Replace", "ByteFallback", "Fuse"]
    assert data["model"]["byte_fallback"] is True
    added = {token["content"]: token for token in data["added_tokens"]}
    assert added["<mask>"]["lstrip"] is True
    assert not added["\n\n"]["special"]
    assert not added["\t"]["special"]


def test_the_closing_tag_is_the_same_after_every_answer(built):
    closing = "\n[/Answer]\n\n"
    expected = [built.token_to_id(token) for token in ("\n", "▁[/Answer]", "\n\n")]
    for kind in KINDS:
        for seed in range(30):
            answer = draw(kind, Random(seed)).answer
            assert ids(built, answer + closing) == ids(built, answer) + expected


@pytest.mark.parametrize("kind", KINDS)
def test_answers_fit_well_into_a_block(built, kind):
    exercises = [draw(kind, Random(seed)) for seed in range(300)]
    assert max(len(ids(built, exercise.answer)) for exercise in exercises) <= 12
    assert all(built.decode(ids(built, exercise.answer)).strip() == exercise.answer for exercise in exercises)


def test_inflected_words_are_stem_and_suffix_or_one_piece(built):
    assert built.encode("kitaptan", add_special_tokens=False).tokens == ["▁kitap", "tan"]
    for rule in (turkish.plural, turkish.locative, turkish.ablative, turkish.accusative):
        for noun in NOUNS:
            stem, suffix = rule(noun)
            tokens = built.encode(stem + suffix, add_special_tokens=False).tokens
            assert tokens in ([f"▁{stem}", suffix], [f"▁{stem}{suffix}"])


def test_any_text_comes_back(built):
    text = "Ağrı Dağı'nın 5137 metre yüksekliği… 😀 naïve"
    assert built.decode(ids(built, text)).strip() == text


def test_the_saved_tokenizer_is_the_built_one(built):
    saved = NANO / "checkpoint" / "tokenizer.json"
    assert json.loads(saved.read_text(encoding="utf-8")) == json.loads(built.to_str())


def test_the_notice_counts_the_kinds():
    assert len(KINDS) == 13
    assert "it knows thirteen kinds of exercises" in KNOWS
