import pytest

from diffutron_ort.errors import InputError
from diffutron_ort.prompt import render_chat

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
        ([{"role": "user", "content": ""}], "[Question]\n\n[/Question]\n\n[Answer]\n"),
        ([{"role": "user", "content": "{content} {0}"}], "[Question]\n{content} {0}\n[/Question]\n\n[Answer]\n"),
    ],
)
def test_messages_become_the_text_of_the_training(messages, text):
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
    ],
)
def test_what_the_reference_drops_silently_is_refused(messages, found):
    with pytest.raises(InputError, match=found):
        render_chat(messages)
