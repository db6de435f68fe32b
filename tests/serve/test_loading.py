from types import SimpleNamespace

import pytest

from diffutron_ort import Diffutron
from diffutron_ort.serve.processes.lifecycle import loader
from diffutron_ort.serve.settings import Settings


@pytest.mark.parametrize("batch_invariant", [True, False])
def test_what_takes_long_is_said_once_and_that_requests_take_turns(monkeypatch, batch_invariant):
    def from_pretrained(model, *, progress, **_):
        for done in (0.0, 0.5, 1.0):
            progress(f"exporting {model}", done)
        return SimpleNamespace(forward=SimpleNamespace(batch_invariant=batch_invariant))

    monkeypatch.setattr(Diffutron, "from_pretrained", from_pretrained)
    said = []
    loader(Settings(model="m"), said.append)()
    assert said[0] == "exporting m"
    assert [line.partition(":")[0] for line in said[1:]] == ([] if batch_invariant else ["requests take turns"])
