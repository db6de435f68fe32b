"""Render messages as in training, refuse those that cannot be rendered, and normalize text."""

import time
import unicodedata

import pytest

from diffutron_ort.errors import InputError
from diffutron_ort.text.chat_template import CHAT_TEMPLATE, composed, least_characters, render_chat

USER, ANSWER = {"role": "user", "content": "M"}, {"role": "assistant", "content": "C"}
SYSTEM, AGAIN = {"role": "system", "content": "S"}, {"role": "user", "content": "N"}


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([USER], "[Question]\nM\n[/Question]\n\n[Answer]\n"),
        ([SYSTEM, USER], "[SYS]\nS\n[/SYS]\n\n[Question]\nM\n[/Question]\n\n[Answer]\n"),
        (
            [USER, ANSWER, AGAIN],
            "[Question]\nM\n[/Question]\n\n[Answer]\nC\n[/Answer]\n\n[Question]\nN\n[/Question]\n\n[Answer]\n",
        ),
        ([{"role": "user", "content": " \n M\t"}], "[Question]\nM\n[/Question]\n\n[Answer]\n"),
        (
            [{"role": "system", "content": ""}, USER, {"role": "assistant", "content": " "}, AGAIN],
            "[SYS]\n\n[/SYS]\n\n[Question]\nM\n[/Question]\n\n[Answer]\n\n[/Answer]\n\n[Question]\nN\n[/Question]\n\n[Answer]\n",
        ),
        ([{"role": "user", "content": "kag\u0306ıt "}], "[Question]\nkağıt\n[/Question]\n\n[Answer]\n"),
        ([{"role": "user", "content": "{content} {0}"}], "[Question]\n{content} {0}\n[/Question]\n\n[Answer]\n"),
    ],
)
def test_messages_are_rendered_as_in_training(messages, text):
    assert render_chat(messages) == text


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([], "messages="),
        ("Merhaba", "messages='Merhaba'"),
        ([USER, SYSTEM], "message 1 has role 'system'"),
        ([{"role": "tool", "content": "M"}], "role 'tool'.*system, user, assistant"),
        ([USER, ANSWER], "last message has role 'assistant'"),
        ([{"role": "user"}], "message 0 is"),
        ([{"role": "user", "content": "M", "name": "x"}], "message 0 is"),
        ([{"role": "user", "content": None}], "content of type NoneType"),
        (["M"], "message 0 is 'M'"),
        ([{"role": "user", "content": " \n"}], "message 0 is the user's and has no text"),
        ([{"role": "user", "content": ""}, ANSWER, USER], "message 0 is the user's and has no text"),
        (b"Merhaba", "messages="),
        ([{"role": ["user"], "content": "M"}], r"message 0 has role \['user'\]"),
    ],
)
def test_messages_that_the_reference_drops_silently_are_refused(messages, found):
    with pytest.raises(InputError, match=found):
        render_chat(messages)


def test_an_error_shortens_a_huge_message():
    for messages in ("a" * 10**7, [{"role": "a" * 10**7, "content": "M"}], [{"a" * 10**7: 1}], ["a" * 10**7]):
        with pytest.raises(InputError) as raised:
            render_chat(messages)
        assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [SYSTEM, USER, ANSWER, AGAIN],
        [{"role": "user", "content": "  \u1f82\u0301 " * 9}],
        [{"role": "user", "content": unicodedata.normalize("NFD", "ᾂ" * 40)}],
    ],
)
@pytest.mark.parametrize("user", ["[Question]{content}", "{content}", "{content} {content}", "no place"])
def test_least_characters_is_a_lower_bound(messages, user):
    template = {**CHAT_TEMPLATE, "user": user}
    assert 0 <= least_characters(messages, template) <= len(render_chat(messages, template))


def test_messages_that_cannot_be_rendered_count_as_nothing():
    for messages in (None, "text", 5, ["M", None], [{"role": ["user"], "content": "M"}], [{"content": 5}]):
        assert least_characters(messages) == 0


def test_a_text_in_nfc_is_unchanged():
    for text in ("", "abc", "İıŞşĞğÖöÜüÇç", "i\u0307 ı\u0307", "😀 中文 \u1f82"):
        assert composed(text) == text


def test_many_combining_marks_in_a_row_take_no_time():
    text = "a" + "\u0301\u0323" * 10**5
    begun = time.process_time()
    assert composed(text) == text
    assert time.process_time() - begun < 1
    assert composed("a" + "\u0301\u0323" * 200) == "\u1ea1" + "\u0323" * 199 + "\u0301" * 200
