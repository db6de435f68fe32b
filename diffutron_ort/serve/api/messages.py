"""The messages of a request, as the model takes them."""

import re
from collections.abc import Mapping, Sequence

from diffutron_ort.serve.api.requests import Message
from diffutron_ort.serve.errors import ApiError

TAG = re.compile(r"\[/?\w+\]")
ROLES: Mapping[str, str] = {"developer": "system"}


def conversation(messages: Sequence[Message], field: str) -> list[dict[str, str]]:
    """Return the role and the text of each message.

    Args:
        messages: As they were sent.
        field: Where, for errors.

    Raises:
        ApiError: A message has a part that is no text.
    """
    return [
        {"role": ROLES.get(message.role, message.role), "content": _content(message, f"{field}[{place}]")}
        for place, message in enumerate(messages)
    ]


def refuse_tags(texts: Mapping[str, str], template: Mapping[str, str]) -> None:
    """Refuse texts that hold tags of the chat template: the model would take what follows for another role's.

    Args:
        texts: Each by its place in the request.
        template: The chat template.

    Raises:
        ApiError: One holds such a tag.
    """
    tags = {tag for text in template.values() for tag in TAG.findall(text)}
    for place, text in texts.items():
        if found := next((tag for tag in TAG.findall(text) if tag in tags), None):
            message = f"{place} holds {found}, a tag of the chat template: take it out"
            raise ApiError(400, message, code="template_tags", param=place)


def _content(message: Message, place: str) -> str:
    """Return the text of a message."""
    if isinstance(message.content, str):
        return message.content
    for number, part in enumerate(message.content):
        if part.type != "text":
            where = f"{place}.content[{number}]"
            raise ApiError(400, f"{where} has type {part.type!r}: only text is supported", param=where)
    return "".join(part.text for part in message.content)
