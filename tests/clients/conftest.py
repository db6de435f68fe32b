"""Servers that the tests of one process share."""

import os
from collections.abc import Iterator

import pytest

from tests.clients.serving import Server, serving

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch a list of prices


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as it is started without flags."""
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield found
