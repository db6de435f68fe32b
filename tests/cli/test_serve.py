"""`diffutron-ort serve`: its flags, and where keys come from. tests/serve has the server."""

import dataclasses

import pytest

from diffutron_ort.cli.main import main
from diffutron_ort.serve.processes import lifecycle
from diffutron_ort.serve.settings import Settings, flag


@pytest.fixture
def served(monkeypatch):
    """The settings with which a server would have been started."""
    given = []
    monkeypatch.setattr(lifecycle, "serve", lambda settings: given.append(settings) or 0)
    monkeypatch.delenv("DIFFUTRON_API_KEY", raising=False)
    return given


def test_every_setting_is_a_flag_with_its_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for spec in dataclasses.fields(Settings):
        assert f"--{flag(spec)} " in text or spec.name == "model"
        assert spec.metadata["help"] in text or spec.name in ("model", "variant", "providers", "threads", "spin")


def test_flags_reach_the_settings(served):
    flags = "models/nano --variant fp32 --provider cpu --threads 2 --spin --name n --host ::1 --port 0 --processes 1 "
    flags += "--api-key one --api-key two --cors https://a.example --allow-host a.example --allow-tags --log-text "
    flags += "--max-queue 1 --deadline 2.5"
    assert main(["serve", *flags.split()]) == 0
    assert served == [
        Settings(
            model="models/nano",
            variant="fp32",
            providers=("cpu",),
            threads=2,
            spin=True,
            name="n",
            host="::1",
            port=0,
            api_keys=("one", "two"),
            cors=("https://a.example",),
            allow_hosts=("a.example",),
            allow_tags=True,
            log_text=True,
            max_queue=1,
            deadline=2.5,
        )
    ]


def test_nothing_given_is_the_default(served):
    assert main(["serve"]) == 0
    assert served == [Settings()]


def test_keys_come_from_flags_and_a_file_or_else_from_the_environment(served, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFUTRON_API_KEY", "environment")
    (tmp_path / "keys").write_text("three\n\n four \n", "utf-8")
    main(["serve"])
    main(["serve", "--api-key", "one"])
    main(["serve", "--api-key", "one", "--api-key-file", str(tmp_path / "keys")])
    assert [one.api_keys for one in served] == [("environment",), ("one",), ("one", "three", "four")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "65536"], "port=65536: must be an integer from 0 to 65535"),
        (["--api-key", "ö"], "api_keys: a key must be 1 to 512 visible ASCII characters"),
        (["--api-key-file", "{empty}"], "holds no key"),
        (["--cors", "example.com"], "cors=['example.com']: must be a scheme"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(arguments, said, served, capsys, tmp_path):
    (tmp_path / "empty").write_text("\n")
    assert main(["serve", *(one.format(empty=tmp_path / "empty") for one in arguments)]) == 2
    assert said in capsys.readouterr().err
    assert served == []


def test_an_empty_key_in_the_environment_is_no_open_door(served, monkeypatch):
    monkeypatch.setenv("DIFFUTRON_API_KEY", "")
    assert main(["serve"]) == 2
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "warns"),
    [
        ([], False),
        (["--host", "0.0.0.0"], True),
        (["--host", "0.0.0.0", "--api-key", "k"], False),
        (["--host", "0.0.0.0", "--uds", "s"], False),
    ],
)
def test_whoever_listens_to_everybody_without_a_key_is_warned(arguments, warns, served, capsys):
    assert main(["serve", *arguments]) == 0
    assert ("can use this server" in capsys.readouterr().err) == warns
