"""Open WebUI's requests, replayed as it sends them: the list of models, a chat, and the chat's title."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.serving import MESSAGES, Server, serving

pytest.importorskip("msgspec")  # of [serve]
pytest.importorskip("starlette")

KEY = "a-key"
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key."""
    with serving(tmp_path_factory.mktemp("guarded"), "--api-key", KEY) as found:
        yield found


def sent(server: Server, path: str, body: Any = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.base + path, data, HEADERS)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


def test_the_list_of_models_has_what_it_looks_for(guarded):
    [found] = json.loads(sent(guarded, "/models"))["data"]
    assert found["id"] == "nano"
    assert "name" not in found  # it shows the id


def test_a_chat_is_streamed(guarded, model):
    body = {
        "stream": True,
        "model": "nano",
        "messages": [{"role": "system", "content": "Kısa cevap ver."}, *MESSAGES],
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "seed": 5,
        "max_tokens": 32,
        "stop": ["###"],
        "top_p": 1,
        "frequency_penalty": 0,
        "num_ctx": 2048,
    }
    *events, done = sent(guarded, "/chat/completions", body).split("\n\n")[:-1]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    options = {"temperature": 0.7, "seed": 5, "max_new_tokens": 32, "stop": "###"}
    assert done == "data: [DONE]"
    assert text == model.chat(body["messages"], **options)
    assert chunks[-1]["usage"]["completion_tokens"] == model.complete(body["messages"], **options).completion_tokens


@pytest.mark.parametrize("more", [{"max_completion_tokens": 1000}, {}])
def test_its_title_and_tags_are_refused_as_too_long(guarded, more):
    task = "Write a title of three to five words for this chat, as JSON, in the language of the chat. " * 20
    body = {"model": "nano", "messages": [{"role": "user", "content": task}], "stream": False, **more}
    with pytest.raises(urllib.error.HTTPError) as caught:
        sent(guarded, "/chat/completions", body)
    assert caught.value.code == 400
    assert json.loads(caught.value.read())["error"]["code"] == "context_length_exceeded"
