"""What several files of the server's tests share."""

import pytest

from diffutron_ort import Diffutron
from tests.serve.held import Held


@pytest.fixture
def held(model):
    found = Held(model.forward)
    yield found, Diffutron(model.bundle, model.tokenizer, found)
    found.let_go()
