"""The settings of a server: what is allowed, and what is said of what is not."""

import dataclasses
import pickle

import pytest

from diffutron_ort.errors import OptionError
from diffutron_ort.serve.settings import Settings, flag


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"port": 65_536}, "port=65536: must be an integer from 0 to 65535"),
        ({"host": ""}, "host='': must be one line of 1 to 4096 characters"),
        ({"host": "a\nb"}, "host='a\\nb': must be one line of 1 to 4096 characters"),
        ({"model": 3}, "model=3: must be one line of 1 to 4096 characters"),
        ({"threads": 0}, "threads=0: must be an integer from 1 to 1024"),
        ({"grace": float("nan")}, "grace=nan: must be a finite number from 0 to 86400"),
        ({"spin": 1}, "spin=1: must be one of True, False"),
        ({"cors": ["example.com"]}, "cors=['example.com']: must be a scheme, a host and perhaps a port"),
        ({"cors": ["https://example.com/"]}, "cors=['https://example.com/']: must be a scheme, a host"),
        ({"allow_hosts": "http://example.com"}, "allow_hosts='http://example.com': must be a host and perhaps a port"),
        ({"providers": 1}, "providers=1: must be names of execution providers"),
    ],
)
def test_what_is_not_allowed_is_named(given, said):
    with pytest.raises(OptionError) as error:
        Settings(**given)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("keys", ["", "two words", "ü", "k" * 513, [b"bytes"], 7, ["good", ""]])
def test_a_bad_key_is_refused_without_being_shown(keys):
    with pytest.raises(OptionError) as error:
        Settings(api_keys=keys)
    assert str(error.value) == "api_keys: a key must be 1 to 512 visible ASCII characters without spaces"


def test_values_are_normalised_and_travel_to_other_processes():
    settings = Settings(port=80.0, cors="*", api_keys="secret", allow_hosts=["[::1]:8000", "a_b.example"], threads=None)
    assert (settings.port, settings.cors, settings.api_keys) == (80, ("*",), ("secret",))
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("LOCALHOST", True), ("0.0.0.0", False), ("::", False)],
)
def test_a_host_is_local_if_only_this_machine_can_reach_it(host, local):
    assert Settings(host=host).is_local == local


def test_every_field_has_help_and_a_flag_of_its_own():
    specs = dataclasses.fields(Settings)
    assert all(spec.metadata["help"] for spec in specs)
    assert len({flag(spec) for spec in specs}) == len(specs)
