import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import unicodedata
import warnings
from contextlib import nullcontext
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffutron_ort import Completion, Diffutron, GenerationConfig
from diffutron_ort.errors import BundleError, ContextError, DiffutronWarning, InputError, OptionError, ProviderError
from diffutron_ort.sampler.canvas import Canvas
from diffutron_ort.sampler.engine import run
from diffutron_ort.text.infill import Draft
from diffutron_ort.text.tokenizer import Tokenizer
from tests.fakes import Says, invariant, scripted

QUESTION = "On iki artı beş kaç eder?"
QUESTIONS = [QUESTION, "kitap sözcüğünün çoğulu nedir?", "Bugün salı, iki gün sonra hangi gündür?", "x"]
SHORT = {"max_new_tokens": 24, "steps": 24, "block_length": 12}


def test_it_answers(model):
    assert model.generate(QUESTION) == "on yedi"


def test_a_list_is_answered_in_order_as_each_would_be_alone(model):
    options = SHORT | {"temperature": 1.0, "seed": 3}
    together = model.generate(QUESTIONS * 3, **options)
    alone = [model.generate(q, **(options | {"seed": 3 + i})) for i, q in enumerate(QUESTIONS * 3)]
    assert together == alone


def test_the_last_step_of_a_stream_has_the_answer(model):
    steps = list(model.stream(QUESTION))
    assert steps[-1].text == model.generate(QUESTION)
    assert [step.index for step in steps] == list(range(len(steps)))
    masks = [step.masks_left for step in steps]
    assert masks == sorted(masks, reverse=True)
    assert all(0 < c <= 1 for step in steps for c in step.confidence)


def test_the_tokenizer_and_the_graph_are_loaded_at_the_same_time(monkeypatch):
    both = threading.Barrier(2, timeout=60)
    for name in ("Tokenizer", "Session"):
        monkeypatch.setattr(f"diffutron_ort.loading.{name}", lambda *_, name=name, **__: both.wait() >= 0 and name)
    loaded = Diffutron.from_pretrained()
    assert (loaded.tokenizer, loaded.forward) == ("Tokenizer", "Session")


@pytest.mark.parametrize("fails", [("Tokenizer",), ("Session",), ("Tokenizer", "Session")])
def test_what_fails_to_load_fails_as_it_does_alone_the_tokenizer_first(monkeypatch, fails):
    def failing(error):
        def fail(*_, **__):
            raise error

        return fail

    errors = {"Tokenizer": BundleError("the tokenizer's"), "Session": ProviderError("the session's")}
    for name in fails:
        monkeypatch.setattr(f"diffutron_ort.loading.{name}", failing(errors[name]))
    with pytest.raises(type(errors[fails[0]])) as raised:
        Diffutron.from_pretrained()
    assert raised.value is errors[fails[0]]


def test_it_loads_where_no_thread_can_be_started(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("diffutron_ort.loading.Thread.start", refuse)
    assert Diffutron.from_pretrained().tokenizer.decode([4]) == ""


@pytest.mark.parametrize("fails", [False, True])
def test_large_blocks_are_returned_at_once_while_loading(monkeypatch, fails):
    def opened(*_, **__):
        set_to.append("open")
        if fails:
            raise ProviderError("no session")

    set_to = []
    monkeypatch.setattr("diffutron_ort.memory._mallopt", lambda *given: set_to.append(given))
    monkeypatch.setattr("diffutron_ort.loading.Session", opened)
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(ProviderError) if fails else nullcontext():
        Diffutron.from_pretrained()
    assert set_to == [(-3, 4 * 2**20), "open", (-3, 32 * 2**20), (-1, 64 * 2**20)]


def test_the_users_settings_of_the_allocator_stay(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    monkeypatch.setattr("diffutron_ort.memory._mallopt", lambda *_: pytest.fail("they were changed"))
    Diffutron.from_pretrained()


def test_it_loads_while_the_interpreter_ends():
    code = (
        "import atexit; from diffutron_ort import Diffutron; "
        "atexit.register(lambda: print(Diffutron.from_pretrained().generate('On iki artı beş kaç eder?')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("on yedi\n", "")


def test_chat_is_generate_with_more_messages(model):
    assert model.chat([{"role": "user", "content": QUESTION}]) == model.generate(QUESTION)


def test_early_end_shows_the_same_and_takes_fewer_steps(model):
    for question in QUESTIONS:
        early, whole = (list(model.stream(question, early_end=end)) for end in (True, False))
        assert early[-1].text == whole[-1].text
        assert len(early) <= 32 < len(whole) == 64


def test_the_bundles_options_override_the_presets_and_keywords_both(model):
    assert model.config() == GenerationConfig(temperature=0.0, repetition_penalty=1.0)
    assert model.config("long") == GenerationConfig(
        steps=128, max_new_tokens=128, temperature=0.0, repetition_penalty=1.0
    )
    assert model.config("long", temperature=0.5, steps=9).steps == 9


def test_the_same_seed_gives_the_same_text_in_another_process(model):
    code = (
        "from diffutron_ort import Diffutron; "
        f"print(Diffutron.from_pretrained().generate({QUESTIONS!r}, temperature=1.5, seed=11, max_new_tokens=24))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    mine = model.generate(QUESTIONS, temperature=1.5, seed=11, max_new_tokens=24)
    assert other.stdout.strip() == str(mine)
    assert mine != model.generate(QUESTIONS, temperature=1.5, seed=12, max_new_tokens=24)


def test_temperature_0_ignores_the_seed(model):
    assert model.generate(QUESTION, seed=2**64 - 1) == model.generate(QUESTION)


def test_seeds_of_a_list_wrap(model):
    options = SHORT | {"temperature": 1.0}
    assert model.generate(["x", "x"], seed=2**64 - 1, **options)[1] == model.generate("x", seed=0, **options)


def test_a_stop_string_cuts_the_text_and_ends_the_generation(model):
    whole, cut = (list(model.stream(QUESTION, stop=stop)) for stop in ((), (" yedi",)))
    assert (whole[-1].text, cut[-1].text) == ("on yedi", "on")
    assert len(cut) <= len(whole)


LIST = "Ters sırala: kitap, deniz, okul, elma"


def test_a_stop_string_that_begins_with_the_answers_own_space_is_not_found_there(model):
    whole = model.generate(LIST, early_end=False)
    assert whole == "elma, okul, deniz, kitap"
    assert model.generate(LIST, stop=" elma") == whole
    assert model.generate(LIST, stop=" ") == "elma,"
    assert model.generate(QUESTION, stop=" on", block_length=1) == "on yedi"
    assert model.generate("elma,", template=False, stop=" ") == ""


def stops_of(text, count, seed):
    """Return stop strings, one to three at once, most of them of `text`, the first with a space before."""
    rng = Random(seed)
    places = [(rng.randrange(len(text)), rng.choice((1, 1, 2, 3, 5, 12))) for _ in range(3 * count)]
    strings = [rng.choice(("", "", " ", "\n")) + text[begin : begin + length] for begin, length in places]
    return [(" " + text[:2],), *(tuple(strings[i : i + rng.randint(1, 3)]) for i in range(0, len(strings), 3))]


@pytest.mark.parametrize(
    ("question", "options"),
    [
        (LIST, {}),
        (QUESTION, {"block_length": 1}),
        (LIST, {"preset": "fast"}),
        (LIST, {"template": False, "remasking": "random", "temperature": 1.5, "seed": 7}),
        (QUESTION, {"template": False, "commit": "factor", "temperature": 0.7}),
    ],
)
def test_an_early_end_takes_the_passes_that_the_text_needs(model, question, options):
    options = {"max_new_tokens": 20, "template": True} | options
    late = list(model.stream(question, early_end=False, **options))
    start = late[-1].start
    texts = [committed_text(model, step) for step in late]
    for stops in stops_of(texts[-1], 3, seed=len(question)):
        early = list(model.stream(question, stop=stops, **options))
        assert early[-1].text == model.extract_answer(
            late[-1].ids, start, model.config(stop=stops), options["template"]
        )
        needed = [any(stop in text for stop in (*stops, "[/Answer]")) for text in texts]
        assert len(early) == (needed.index(True) + 1 if any(needed) else len(late))


def committed_text(model, step):
    """Return the text before the first mask of a canvas; `<pad>` ends an answer, as `[/Answer]` does."""
    ids = step.ids.tolist()
    ids = ids[: ids.index(4) if 4 in ids else len(ids)]
    ends = [i for i in range(step.start, len(ids)) if ids[i] < 2]
    text = model.tokenizer.decode(ids[step.start : ends[0] if ends else None], ids[step.start - 1])
    return text + ("[/Answer]" if ends else "")


def test_stop_strings_hold_for_chat_and_for_lists(model):
    for early_end in (True, False):
        options = {"stop": (" elma", "z", "\n["), "early_end": early_end}
        assert model.generate([LIST, QUESTION], **options) == ["elma, okul, deni", "on yedi"]
        assert model.chat([{"role": "user", "content": LIST}], **options) == "elma, okul, deni"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=3))
def test_stop_strings_may_overlap_and_an_early_end_shows_the_same(model, places):
    whole = "kitap ev masa\n[/Answer]"
    stops = tuple(stop for begin, length in places if (stop := whole[begin : begin + length]))
    copy, _ = scripted(model, whole)
    early, late = (copy.generate("x", stop=stops, early_end=end) for end in (True, False))
    complete = min((whole.index(stop) + len(stop), whole.index(stop)) for stop in (*stops, "[/Answer]"))
    assert early == late == whole[: complete[1]].strip()


def test_an_earlier_stop_that_overlaps_a_later_one_is_found(model):
    copy, _ = scripted(model, "kitap ev masa\n[/Answer]")
    assert copy.generate("x", stop=("ev masa", "p ev")) == "kita"


def test_a_stop_string_ends_the_generation(model):
    copy, says = scripted(model, "kitap ev masa\n[/Answer]" + " oda" * 40)
    copy.generate("x", stop="ev", steps=64)
    assert says.passes <= 3


def test_a_closing_tag_that_is_tokenized_otherwise_cuts_the_text(model):
    copy, _ = scripted(model, "kitap(x)[/Answer]masa")
    assert copy.generate("x") == "kitap(x)"


def test_raw_text_is_not_stripped(model):
    copy, says = scripted(model, "")
    word = model.tokenizer.encode("kitap")[0]
    for prompt, text in [("ev", " kitap"), ("ev\n", "kitap")]:  # after a newline the space is none of the text's
        says.tokens = [word] * 256
        assert copy.generate(prompt, template=False, max_new_tokens=1) == text


def spliced(model, pieces, tokens):
    return Draft((), pieces).spliced(model.tokenizer, np.array(tokens), np.arange(len(tokens)))


def test_neighbouring_masks_are_decoded_together(model):
    smile = model.tokenizer.encode("\U0001f600")[1:]
    assert len(smile) == 4  # four bytes
    assert spliced(model, ["bir (", "", "", "", ")"], smile) == "bir (\U0001f600)"


def test_a_template_strips_and_raw_text_is_continued(model):
    assert model.generate(f"[Question]\n{QUESTION}\n[/Question]\n\n[Answer]\n", template=False).strip() == "on yedi"


@pytest.mark.parametrize(
    "prompt", ["", " ", " \n\t\u2003\x1c", "\ufeff", "\u200b \u2060\u200d", "\x00\x7f", "\u202e\xad", "\u3164\u2800"]
)
def test_a_prompt_without_text_is_no_question(model, prompt):
    for call in (model.generate, model.stream):
        with pytest.raises(InputError, match="^the prompt has no text"):
            call(prompt)
    with pytest.raises(InputError, match="^prompt 1 has no text"):
        model.generate(["Merhaba", prompt])
    with pytest.raises(InputError, match="^message 0 is the user's and has no text"):
        model.chat([{"role": "user", "content": prompt}])


def test_raw_text_may_be_none(model):
    [*_, last] = model.stream("", template=False, **SHORT)
    assert last.start == 0
    assert model.generate("", template=False, **SHORT) == last.text


@pytest.mark.parametrize("preset", ["short", "long"])
def test_both_presets_run(model, preset):
    assert model.generate(QUESTION, preset=preset) == "on yedi"


@pytest.mark.parametrize("prompt", [[], b"x", None, 5, [None], ["x", 3], "\ud800", ["\udfff"], {"a": 1}])
def test_what_is_no_prompt_is_refused(model, prompt):
    for call in (model.generate, model.fill):
        with pytest.raises(InputError):
            call(prompt)


def test_suppressing_everything_is_refused(model):
    with pytest.raises(OptionError, match="leave a token to choose"):
        model.generate("x", suppress_tokens=range(model.bundle.vocab_size))


@pytest.mark.parametrize("call", ["generate", "stream"])
def test_the_whole_context_may_be_used(model, call):
    prompt = model._prompts.canvas(QUESTION, True, model.config()).start
    getattr(model, call)(QUESTION, max_new_tokens=256 - prompt, steps=1)
    with pytest.raises(ContextError):
        getattr(model, call)(QUESTION, max_new_tokens=257 - prompt, steps=1)


@pytest.mark.parametrize("call", ["generate", "stream"])
def test_more_than_the_context_is_refused_with_both_numbers(model, call):
    with pytest.raises(
        ContextError, match=r"\d+ tokens of prompt and 250 new ones are \d+, the model's context is 256"
    ):
        getattr(model, call)(QUESTION, max_new_tokens=250)
    with pytest.raises(ContextError, match="2147483647 new"):
        getattr(model, call)(QUESTION, max_new_tokens=2**31 - 1)


def test_too_long_a_prompt_in_a_list_is_refused_before_any_is_answered(model, monkeypatch):
    monkeypatch.setattr(model, "forward", lambda *_, **__: pytest.fail("a pass was run"))
    with pytest.raises(ContextError):
        model.generate([QUESTION, "kitap " * 300])
    with pytest.raises(ContextError):
        model.fill(["Bir <mask>", "kitap " * 300])


@pytest.mark.parametrize("call", ["generate", "stream", "fill"])
def test_a_misspelt_option_is_refused(model, call):
    with pytest.raises(OptionError, match="unknown option 'temprature'"):
        getattr(model, call)("x <mask>", temprature=1)


@pytest.mark.parametrize("name", ["cfg_keep_tokens", "suppress_tokens", "penalty_exempt"])
def test_ids_beyond_the_vocabulary_are_refused(model, name):
    with pytest.raises(OptionError, match=f"{name} holds {model.bundle.vocab_size}"):
        model.generate("x", **{name: [model.bundle.vocab_size]})


def test_every_option_of_the_reference_runs(model):
    text = model.generate(
        QUESTIONS[:2],
        steps=6,
        max_new_tokens=12,
        block_length=4,
        temperature=0.7,
        repetition_penalty=1.3,
        remasking="random",
        stochastic_transfer=True,
        cfg_scale=0.5,
        cfg_keep_tokens=(5,),
        schedule="cosine",
        suppress_tokens=(0, 1),
        penalty_exempt=(9,),
    )
    assert len(text) == 2


def test_fill_leaves_the_rest_as_it_is(model):
    text = "  Fransa'nın\tbaşkenti  <mask><mask> şehridir.\n\n<mask>!"
    filled = model.fill(text)
    begin, between, end = "  Fransa'nın\tbaşkenti  ", " şehridir.\n\n", "!"
    assert filled.startswith(begin)
    assert filled.endswith(end)
    assert between in filled[len(begin) :]
    assert "<mask>" not in filled


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("  Türkiye\n", "$"),
        ("", "$"),
        ("Başkent [MASK].", r"; '\[MASK\]' is text: a mask is written <mask>$"),
        ("Başkent <MASK>.", "; '<MASK>' is text"),
        ("Başkent [mask].", "; '.mask.' is text"),
        ("Başkent < mask >.", "; '< mask >' is text"),
        ("Başkent ____.", "; '____' is text"),
    ],
)
def test_fill_without_a_mask_changes_nothing_and_says_so(model, text, hint):
    with pytest.warns(DiffutronWarning, match=f"^the text has no <mask>, so there is nothing to fill in{hint}") as told:
        assert model.fill(text) == text
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(DiffutronWarning, match="^text 1 has no <mask>"):
        model.fill(["<mask>", text])


def test_fill_with_a_mask_says_nothing(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fill("Başkent ___ [MASK] <mask>")


def test_fill_of_a_list_is_each_alone(model):
    texts = ["Bir <mask> iki.", "Üç <mask><mask>"]
    options = {"temperature": 1.0, "seed": 5}
    assert model.fill(texts, **options) == [model.fill(t, **(options | {"seed": 5 + i})) for i, t in enumerate(texts)]


def test_fill_takes_one_mask_a_step_unless_told_otherwise(model):
    passes = []

    @invariant
    def forward(batch, **options):
        passes.append(len(batch.rows))
        return model.forward(batch, **options)

    counting = Diffutron(model.bundle, model.tokenizer, forward)
    counting.fill("<mask> <mask> ve <mask>")
    assert passes == [3, 2, 1]
    passes.clear()
    counting.fill("<mask> <mask> ve <mask>", steps=1)
    assert passes == [3]


def test_fill_refuses_options_without_a_meaning(model):
    with pytest.raises(OptionError, match="max_new_tokens, stop: fill has no such option"):
        model.fill("<mask>", stop="x", max_new_tokens=3)


def test_fill_refuses_more_than_the_context(model):
    with pytest.raises(ContextError, match=r"^\d+ tokens, the model's context is 256: shorten the text$"):
        model.fill("kitap " * 300 + "<mask>")


@pytest.mark.parametrize(
    ("pieces", "filled", "text"),
    [
        (["bir ", " iki"], "kitap", "bir kitap iki"),  # the text's own space serves
        (["(", ")"], "kitap", "( kitap)"),  # the piece brings one
        (["", " var"], "kitap", "kitap var"),
        (["bir\n", ""], "kitap", "bir\nkitap"),
        (["bir ", "", " iki"], "kitap ev", "bir kitap ev iki"),
        (["bir ", " ve ", "!"], "kitap ev", "bir kitap ve ev!"),
    ],
)
def test_what_is_filled_in_is_spliced_into_the_text_as_it_was_given(model, pieces, filled, text):
    tokens = model.tokenizer.encode(filled)
    assert len(tokens) == len(pieces) - 1
    assert spliced(model, pieces, tokens) == text


@pytest.mark.parametrize(
    ("preset", "changed"),
    [
        (None, {"steps": 16, "max_new_tokens": 20, "cache": "none"}),
        ("short", {"steps": 64, "max_new_tokens": 64, "cache": "none"}),
        ("long", {"steps": 128, "max_new_tokens": 128, "cache": "none"}),
        ("fast", {"steps": 16, "max_new_tokens": 20, "cache": "block", "refresh_steps": 4, "commit": "factor"}),
    ],
)
def test_a_preset_that_is_named_overrides_the_bundle_in_what_it_is_about(model, preset, changed):
    own = {"steps": 16, "max_new_tokens": 20, "temperature": 0.5, "repetition_penalty": 1.1, "refresh_steps": 9}
    copy = Diffutron(replace(model.bundle, options=own), model.tokenizer, model.forward)
    config = copy.config(preset)
    assert {name: getattr(config, name) for name in changed} == changed
    assert (config.temperature, config.repetition_penalty) == (0.5, 1.1)
    assert copy.config(preset, steps=3, temperature=0.7) == config.replace(steps=3, temperature=0.7)
    assert config.refresh_steps == (4 if preset == "fast" else 9)


def test_fill_names_what_it_has_not(model):
    with pytest.raises(OptionError, match="preset, template: fill has no such option"):
        model.fill("<mask>", preset="fast", template=False)


# Each composed, and as it may be typed: dotted and dotless i, and the letters that Turkish has besides.
FORMS = [
    (QUESTION, unicodedata.normalize("NFD", QUESTION)),
    ("İstanbul'da kaç iğne var?", "I\u0307stanbul'da kac\u0327 ig\u0306ne var?"),
    ("ışık, IŞIK, iğde, Ö, ö, ü, â", "ıs\u0327ık, IS\u0327IK, ig\u0306de, O\u0308, o\u0308, u\u0308, a\u0302"),
    ("i\u0307 ı\u0307", "i\u0307 ı\u0307"),  # which have no letter of their own
    ("Ångström é", "\u212bngstro\u0308m e\u0301"),
]


@pytest.mark.parametrize(("composed", "typed"), FORMS)
def test_what_a_user_types_is_composed(model, composed, typed):
    config = model.config()
    expected = model._prompts.canvas(composed, True, config).ids.tolist()
    assert model._prompts.canvas(typed, True, config).ids.tolist() == expected
    assert expected[: -config.max_new_tokens] == model.tokenizer.encode(
        f"[Question]\n{composed}\n[/Question]\n\n[Answer]\n"
    )
    chat = [{"role": "system", "content": typed}, {"role": "user", "content": typed}]
    assert model._prompts.chat(chat, config).ids.tolist() == [
        *model.tokenizer.encode(f"[SYS]\n{composed}\n[/SYS]\n\n"),
        *expected,
    ]


@pytest.mark.parametrize(("composed", "typed"), FORMS[:3])
def test_raw_text_stays_as_it_is_and_is_warned_of(model, composed, typed):
    calls = [
        ("the prompt", lambda text: model.generate(text, template=False, **SHORT)),
        ("prompt 0", lambda text: model.generate([text], template=False, **SHORT)),
        ("the prompt", lambda text: list(model.stream(text, template=False, **SHORT))),
        ("the text", lambda text: model.fill(f"{text} <mask>")),
    ]
    for name, call in calls:
        with pytest.warns(DiffutronWarning, match=f"^{name} has letters .* not in NFC") as told:
            call(typed)
        assert {warning.filename for warning in told} == {__file__}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(composed)
    with pytest.warns(DiffutronWarning):
        assert model.fill(f"{typed} <mask>").startswith(f"{typed} ")


LONG = [part * 10**6 for part in ("aaaaaaaaaa", "üüüüüüüüüü", "kitap ", ".\n", "a\u0301\u0323", "<mask>", "😀")]


@pytest.mark.parametrize("text", LONG, ids=lambda text: repr(text[:8]))
def test_what_cannot_fit_is_refused_before_it_is_worked_on(model, monkeypatch, text):
    monkeypatch.setattr(model.tokenizer, "encode", lambda _: pytest.fail("the text was tokenized"))
    calls = [
        lambda: model.generate(text),
        lambda: model.generate([text]),
        lambda: model.generate(text, template=False),
        lambda: model.stream(text, max_new_tokens=256),
        lambda: model.fill(text),
        lambda: model.fill(f"<mask>{text}"),
        lambda: model.chat([{"role": "system", "content": text}, {"role": "user", "content": "x"}]),
        lambda: model.chat([{"role": "user", "content": text}]),
    ]
    for call in calls:
        begun = time.process_time()
        with pytest.raises(ContextError, match=r"^(prompt 0: )?at least \d+ tokens.*, the model's context is 256: "):
            call()
        assert time.process_time() - begun < 5


@pytest.mark.parametrize("content", ["x", "x " * 50])
def test_more_messages_than_fit_are_refused_before_they_are_joined(model, monkeypatch, content):
    monkeypatch.setattr("diffutron_ort.prompts.render_chat", lambda *_: pytest.fail("the messages were rendered"))
    messages = [{"role": "user", "content": content}] * 10**5
    with pytest.raises(ContextError, match="^at least "):
        model.chat(messages)


def test_what_fits_is_not_refused_however_much_of_it_is_white_space(model):
    padded = " " * 10**6 + QUESTION + "\n" * 10**6
    assert model.generate(padded) == "on yedi"
    assert model.chat([{"role": "system", "content": " " * 10**6}, {"role": "user", "content": padded}])
    assert model.fill("kitap" + " " * 10**6 + "<mask>").startswith("kitap" + " " * 10**6)


def test_what_just_fits_is_not_refused(model):
    pieces = model.tokenizer._tokenizer.get_vocab()
    longest = max((piece for piece in pieces if piece.startswith("▁")), key=len).replace("▁", " ")
    room = 256 - model._prompts.canvas("x", False, model.config(max_new_tokens=1)).start
    assert len(model.tokenizer.encode(longest * room)) == room
    [*_, last] = model.stream(longest * (room - 1), template=False, max_new_tokens=1)
    assert last.start == room - 1


def test_an_array_that_becomes_a_canvas_can_still_change():
    ids = np.arange(5)
    canvas = Canvas(ids, start=2)
    ids[0] = 9
    assert canvas.ids.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        canvas.ids[0] = 9


@pytest.fixture(scope="module")
def tagged(model):
    """The embedded model with HTML tags as added tokens, as mmBERT's tokenizer has, and a mask that is a word."""
    bundle = replace(model.bundle, vocab_size=model.bundle.vocab_size + 4)
    specification = json.loads((bundle.folder / "tokenizer.json").read_text("utf-8"))
    added = specification["added_tokens"]
    added[4]["single_word"] = True
    added += [added[-1] | {"id": 2023 + i, "content": tag} for i, tag in enumerate(("<b>", "</b>", "<sub>", "</sub>"))]
    tokenizer = Tokenizer(json.dumps(specification).encode(), "tokenizer.json", bundle.vocab_size, bundle.special)
    return Diffutron(bundle, tokenizer, model.forward)


@pytest.mark.parametrize("answer", ["H<sub>2</sub>O", "<b>kalın</b>", "bir <b>iki</b>\nüç", "x</sub>y"])
def test_the_text_after_a_tag_gets_no_space_that_is_not_its_own(tagged, answer):
    copy, _ = scripted(tagged, f"{answer}\n[/Answer]")
    assert copy.generate("x") == answer
    assert [step.text for step in copy.stream("x")][-1] == answer
    raw, says = scripted(tagged, "")
    before, word = tagged.tokenizer.encode("bir<b>"), tagged.tokenizer.encode("iki")
    says.tokens = [*before, *word * 200]
    assert raw.generate("bir<b>", template=False, max_new_tokens=1) == "iki"


@pytest.mark.parametrize(
    ("text", "word", "filled"),
    [
        ("H<sub><mask></sub>O", "2", "H<sub>2</sub>O"),
        ("<b><mask></b> iki", "bir", "<b>bir</b> iki"),
        ("<b>bir</b><mask>", "iki", "<b>bir</b>iki"),
        ("<b>bir</b> <mask>", "iki", "<b>bir</b> iki"),
        ("kitap<mask>", "ev", "kitap ev"),
        ("kitap<mask>lar", "ev", "kitap evlar"),
    ],
)
def test_a_mask_beside_a_tag_or_in_a_word_is_filled(tagged, text, word, filled):
    [token] = tagged.tokenizer.encode(word)[-1:]
    copy = Diffutron(tagged.bundle, tagged.tokenizer, Says(*[token] * 256, vocab=tagged.bundle.vocab_size))
    assert copy.fill(text) == filled


def test_fill_works_after_the_folder_has_gone(broken):
    copy = Diffutron.from_pretrained(broken)
    shutil.rmtree(broken)
    assert copy.fill("Bir <mask> iki.").startswith("Bir ")


def test_the_steps_of_a_stream_make_its_completion(model):
    options = {"steps": 8, "seed": 3, "temperature": 1.0, "stop": ["e"]}
    made, whole = Completion.of(model.stream("x", **options)), model.complete("x", **options)
    assert made.ids.tolist() == whole.ids.tolist()
    assert dataclasses.replace(made, ids=whole.ids).__dict__ == whole.__dict__


def last_step(model, sequence):
    """Return the last step of a sequence."""
    [*_, (_, step)] = run(model.engine, [sequence], 1)
    return step


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 4}, {"preset": "fast"}, {"block_length": 5}])
def test_raw_text_without_a_suffix_is_continued_as_by_generate(model, options):
    sizes = {"max_new_tokens": 12, "steps": 12}
    for prompt in ("Bir", model.tokenizer.encode("Bir"), np.array(model.tokenizer.encode("Bir"))):
        step = last_step(model, model.raw_sequence(prompt, **(sizes | options)))
        assert step.text == model.generate("Bir", template=False, **(sizes | options))


@pytest.mark.parametrize("block_length", [1, 3, 32])
def test_a_suffix_stays_and_the_text_between_ends_before_it(model, block_length):
    before, after = "Türkiye'nin başkenti", " şehridir. [/Answer]"
    sequence = model.raw_sequence(before, after, max_new_tokens=4, steps=4, block_length=block_length)
    step, kept = last_step(model, sequence), model.tokenizer.encode(after)
    new = step.ids[step.start : step.start + 4].tolist()
    assert step.ids[-len(kept) :].tolist() == kept
    assert step.text == model.tokenizer.decode(new, int(step.ids[step.start - 1]))
    assert step.answer.max() < step.end == step.start + 4
    assert step.finish_reason == "length"


def test_a_stop_string_ends_the_text_before_a_suffix(model):
    options = {"max_new_tokens": 6, "temperature": 1.0}
    whole = last_step(model, model.raw_sequence("Bir", " iki", **options)).text
    stop = whole[len(whole) // 2 :][:2]
    step = last_step(model, model.raw_sequence("Bir", " iki", stop=stop, **options))
    assert step.text == whole[: whole.index(stop)]
    assert step.finish_reason == "stop"


@pytest.mark.parametrize("prompt", [[-1], [10**6], [True], [1.5], ["x"], 5, None, b"x", np.zeros((2, 2), np.int64)])
def test_a_raw_prompt_is_text_or_token_ids(model, prompt):
    with pytest.raises(InputError):
        model.raw_sequence(prompt, max_new_tokens=2)


def test_a_suffix_counts_for_the_context(model):
    with pytest.raises(ContextError, match="prompt and 200 new"):
        model.raw_sequence("Bir", [5] * 60, max_new_tokens=200)


def test_a_step_tells_the_best_tokens_of_each_place_that_it_fills(model):
    for step in model.stream(QUESTION, temperature=1.0, **SHORT):
        assert step.best.ids.shape == step.best.logprobs.shape == (len(step.positions), 64)
        tokens = step.ids[step.positions]
        for token, sure, ids, logprobs in zip(tokens, step.confidence, *step.best, strict=True):
            assert (np.diff(logprobs) <= 0).all()
            assert np.exp(logprobs).sum() < 1 + 1e-6
            assert np.exp(logprobs[ids == token]) == pytest.approx([sure] * int((ids == token).sum()))
