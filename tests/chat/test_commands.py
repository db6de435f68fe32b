"""The commands: each does what its help says, and a wrong one says what would be right."""

import json
from pathlib import Path

import pytest

from diffutron_ort.chat.commands import COMMANDS, completions, execute, is_command
from diffutron_ort.errors import DiffutronError, OptionError
from tests.chat.fakes import session

QUESTION = "On iki artı beş kaç eder?"


@pytest.fixture
def talk(model):
    return session(model)[0]


def notes(talk, *lines):
    """Return what commands say."""
    before = len(talk.screen.notes)
    for line in lines:
        execute(talk, line)
    return talk.screen.notes[before:]


@pytest.mark.parametrize(("line", "expected"), [("/help", True), ("//help", False), ("help", False), ("/", True)])
def test_a_slash_makes_a_command_and_two_do_not(line, expected):
    assert is_command(line) is expected


def test_help_tells_every_command_within_a_terminal(talk):
    [text] = notes(talk, "/help")
    assert [line.split()[0] for line in text.splitlines()] == [f"/{each.name}" for each in COMMANDS]
    assert max(map(len, text.splitlines())) <= 80


def test_the_system_message_is_set_shown_and_removed(talk):
    assert notes(talk, "/system", "/system  Kısa cevap ver.", "/system") == [
        "(no system message)",
        *["Kısa cevap ver."] * 2,
    ]
    assert talk.conversation.messages() == [{"role": "system", "content": "Kısa cevap ver."}]
    assert notes(talk, "/system -") == ["(no system message)"]
    assert talk.conversation.messages() == []


@pytest.mark.parametrize(
    ("line", "said", "name", "value"),
    [
        ("/seed 7", "seed 7", "seed", 7),
        ("/steps 32", "steps 32", "steps", 32),
        ("/set max-new-tokens 5", "max_new_tokens 5", "max_new_tokens", 5),
        ("/set temperature 0.5", "temperature 0.5", "temperature", 0.5),
        ("/set early_end off", "early_end off", "early_end", False),
        ("/set cache block", "cache block", "cache", "block"),
        ('/set stop "a b" Ali\'nin', 'stop "a b" "Ali\'nin"', "stop", ("a b", "Ali'nin")),
        (r'/set stop "\n" "x', r'stop "\n" "\"x"', "stop", ("\n", '"x')),
        ("/set suppress_tokens 3 4", "suppress_tokens 3 4", "suppress_tokens", (3, 4)),
    ],
)
def test_options_are_set_and_shown(talk, line, said, name, value):
    assert notes(talk, line) == [said]
    assert talk.options == {name: value}
    assert notes(talk, f"/set {name}", f"/unset {name}")[0] == said
    assert talk.options == {}


def test_options_are_listed_with_those_that_were_set(talk):
    [_, text] = notes(talk, "/seed 7", "/options")
    rows = dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line.strip())
    assert rows["seed"] == "7 (set)"
    assert rows["steps"] == "64"
    assert len(text.splitlines()) == len(vars(talk.config))


def test_a_preset_is_taken_and_shown(talk):
    said = notes(talk, "/preset", "/preset long", "/preset")
    assert said[0] == "(no preset: the model's own options)"
    assert said[1] == said[2] == "long steps=128 max_new_tokens=128 block_length=32"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/sytem x", "there is no command /sytem: did you mean /system? /help lists them"),
        ("/usr/bin", "a question that begins with a slash is written with two"),
        ("/", "there is no command /: "),
        ("/reset all", "/reset takes no argument"),
        ("/save", "/save needs its argument: /save FILE"),
        ("/set", "/set needs its argument: /set OPTION [VALUE]"),
        ("/steps 0", "steps=0: must be an integer from 1 to 65536"),
        ("/steps many", "steps='many': must be an integer from 1 to 65536"),
        ("/seed -1", "seed=-1: must be an integer from 0 to"),
        ("/retry x", "seed='x': must be an integer"),
        ("/set temperature hot", "temperature='hot': must be a finite number"),
        ("/set early_end maybe", "early_end='maybe': must be one of True, False"),
        ("/set cache blok", "cache='blok': did you mean 'block'? must be one of 'none', 'block'"),
        ('/set stop ""', "stop=('',): must hold strings of valid Unicode that are not empty"),
        ("/set temp 1", "unknown option 'temp': did you mean 'temperature'?"),
        ("/set temp", "unknown option 'temp': did you mean 'temperature'?"),
        ("/unset stepz", "unknown option 'stepz': did you mean 'steps'?"),
        ("/preset lang", "preset='lang': did you mean 'long'? must be one of 'short', 'long', 'fast'"),
        ("/save talk.txt", "'talk.txt': the name must end in .json or .md"),
        ("/undo", "there is no turn to undo"),
        ("/retry", "there is no question to answer again"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(talk, line, found):
    with pytest.raises(DiffutronError) as error:
        execute(talk, line)
    assert found in str(error.value)
    assert (talk.options, talk.preset, talk.conversation.system) == ({}, None, "")


def test_an_answer_is_given_again_with_another_seed(talk):
    talk.ask(QUESTION)
    execute(talk, "/set temperature 1")
    execute(talk, "/retry 5")
    [turn] = talk.conversation.turns
    assert turn.answer == talk.model.generate(QUESTION, temperature=1, seed=5)


def test_a_talk_is_written(model):
    talk, files = session(model)
    talk.ask(QUESTION)
    assert notes(talk, "/save a b.json", "/undo") == ["(written: a b.json)", f"(removed: {QUESTION})"]
    assert json.loads(files["a b.json"])[1] == {"role": "assistant", "content": "on yedi"}
    execute(talk, "/save ~/talk.md")
    assert files[str(Path.home() / "talk.md")]


def test_exit_ends(talk):
    for line in "/exit", "/quit", "/bye":
        with pytest.raises(EOFError):
            execute(talk, line)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/se", {"/seed", "/set"}),
        ("/preset ", {"short", "long", "fast"}),
        ("/set ref", {"refresh_steps", "refresh_entropy"}),
        ("/set cache b", {"cache block"}),
        ("/set early-end o", {"early-end on", "early-end off"}),
        ("/unset see", {"seed"}),
        ("/help ", set()),
        ("/nothing ", set()),
        ("//se", set()),
        ("se", set()),
    ],
)
def test_commands_and_their_values_are_completed(line, found):
    assert {text for text, _, _ in completions(line)} == found
    assert all(line[len(line) - replaced :] == text[:replaced] for text, replaced, _ in completions(line))


def test_every_completion_of_a_command_can_be_done(talk):
    for text, _, help_ in completions("/"):
        assert help_
        name = text.removeprefix("/")
        for value, _, _ in completions(f"{text} ") if name in ("preset", "set", "unset") else ():
            execute(talk, f"{text} {value}")


def test_files_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in "talk.md", "folder/first.json", ".hidden":
        (tmp_path / name).write_text("", "utf-8")
    for line, found in [
        ("", ["folder/", "talk.md"]),
        ("folder/f", ["folder/first.json"]),
        (".h", [".hidden"]),
        ("no/", []),
    ]:
        assert [text for text, _, _ in completions(f"/save {line}")] == found


def test_the_error_of_an_option_is_of_options(talk):
    with pytest.raises(OptionError):
        execute(talk, "/steps 0")
