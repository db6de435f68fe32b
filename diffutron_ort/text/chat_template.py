"""Messages to prompt text: the chat template that the model was taught with."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from diffutron_ort.brief import brief
from diffutron_ort.errors import InputError

# What each role's message becomes, and what asks for an answer (dllm's template for ModernBERT, rendered).
CHAT_TEMPLATE: Mapping[str, str] = MappingProxyType(
    {
        "system": "[SYS]\n{content}\n[/SYS]\n\n",
        "user": "[Question]\n{content}\n[/Question]\n\n",
        "assistant": "[Answer]\n{content}\n[/Answer]\n\n",
        "generation": "[Answer]\n",
    }
)
ROLES = ("system", "user", "assistant")
MOST_COMPOSED = 4  # characters that become one in NFC
# White space, controls, what has no width, letters and a symbol that show nothing: none of them is a question.
BLANK = re.compile(
    r"[\s\x00-\x1f\x7f-\xa0\xad\u115f\u1160\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0]*"
)
# More combining marks in a row than any text has; Python's time to compose them grows with the square of their number.
MARKS = re.compile(r"[^\w\x00-\u02ff]{1000}")


def render_chat(messages: Sequence[Mapping[str, str]], template: Mapping[str, str] = CHAT_TEMPLATE) -> str:
    """Return the prompt that asks the model to answer the last of `messages`.

    Args:
        messages: Each has a `role` (system, user or assistant) and a `content`, which is trimmed and composed. A system
            message can only be the first, and the last must be the user's.
        template: What each role's message becomes, with `{content}` in its place, and under `generation` what asks
            for an answer.

    Raises:
        InputError: There is no message, one cannot be rendered (the reference drops such messages silently), or one
            of the user's has no text.
    """
    if isinstance(messages, str | bytes | bytearray) or not isinstance(messages, Sequence) or not messages:
        raise InputError(
            f"messages={brief(messages)}: must be a list of at least one message with a role and a content"
        )
    rendered = [_render(message, place, template) for place, message in enumerate(messages)]
    if messages[-1]["role"] != "user":
        raise InputError(
            f"the last message has role {brief(messages[-1]['role'])}: it must be the user's, to be answered"
        )
    return "".join(rendered) + template["generation"]


def least_characters(messages: Sequence[Mapping[str, str]], template: Mapping[str, str] = CHAT_TEMPLATE) -> int:
    """Return how many characters the prompt of `messages` has at least, without making it.

    What cannot be rendered counts as nothing.
    """

    def least(message: object) -> int:
        role, content = (message.get(key) for key in ("role", "content")) if isinstance(message, Mapping) else ("", "")
        if role not in ROLES or not isinstance(content, str):
            return 0
        around = template[role]
        return len(around) + around.count("{content}") * (len(content.strip()) // MOST_COMPOSED - len("{content}"))

    return sum(map(least, messages)) if isinstance(messages, Sequence) and not isinstance(messages, str) else 0


def composed(text: str) -> str:
    """Return `text` in Unicode's form NFC, in which the model was taught: ğ as one letter, not as g and a breve.

    Python's Unicode is as old as Python: letters that are newer than it stay as they are. So does a text with more
    than a thousand combining marks in a row.
    """
    return text if text.isascii() or MARKS.search(text) else unicodedata.normalize("NFC", text)


def is_blank(text: str) -> bool:
    """Return whether there is nothing in `text` that can be seen."""
    return BLANK.fullmatch(text) is not None


def _render(message: Mapping[str, str], place: int, template: Mapping[str, str]) -> str:
    if not isinstance(message, Mapping) or message.keys() != {"role", "content"}:
        raise InputError(f"message {place} is {brief(message)}: must have a role and a content, and nothing else")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise InputError(f"message {place} has role {brief(role)}: must be one of {', '.join(ROLES)}")
    if role == "system" and place > 0:
        raise InputError(f"message {place} has role 'system': only the first message can have it")
    if not isinstance(content, str):
        raise InputError(f"message {place} has content of type {type(content).__name__}: must be a string")
    content = content.strip()
    if role == "user" and is_blank(content):
        raise InputError(f"message {place} is the user's and has no text: write a question")
    return template[role].replace("{content}", composed(content))
