"""Render messages as a prompt, in the chat template of the model's training."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from diffutron_ort.brief import brief
from diffutron_ort.errors import InputError

ANSWER_END = "[/Answer]"

# How each role's message is rendered, and what starts the answer (dllm's template for ModernBERT, rendered).
CHAT_TEMPLATE: Mapping[str, str] = MappingProxyType(
    {
        "system": "[SYS]\n{content}\n[/SYS]\n\n",
        "user": "[Question]\n{content}\n[/Question]\n\n",
        "assistant": f"[Answer]\n{{content}}\n{ANSWER_END}\n\n",
        "generation": "[Answer]\n",
    }
)
ROLES = ("system", "user", "assistant")
MOST_COMPOSED = 4  # characters that NFC combines into one
# White space, control characters, characters of no width, and a few letters and a symbol that are drawn blank.
BLANK = re.compile(
    r"[\s\x00-\x1f\x7f-\xa0\xad\u115f\u1160\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0]*"
)
# More combining marks in a row than any real text has; `unicodedata.normalize` takes quadratic time on them.
MARKS = re.compile(r"[^\w\x00-\u02ff]{1000}")


def render_chat(messages: Sequence[Mapping[str, str]], template: Mapping[str, str] = CHAT_TEMPLATE) -> str:
    """Return the prompt that asks the model to answer the last of `messages`.

    Args:
        messages: Each has a `role` (system, user or assistant) and a `content`, which is trimmed and put into Unicode
            NFC. Only the first can be a system message, and the last must be a user message.
        template: The text for each role, with `{content}` where the content goes; `generation` is the text that starts
            the answer.

    Raises:
        InputError: There are no messages, a message cannot be rendered (the reference silently drops such messages),
            or a user message has no text.
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


def answer_end(template: Mapping[str, str]) -> str:
    """Return what follows an answer in a chat template."""
    return template["assistant"].partition("{content}")[2]


def least_characters(messages: Sequence[Mapping[str, str]], template: Mapping[str, str] = CHAT_TEMPLATE) -> int:
    """Return a lower bound for the length in characters of the prompt, without rendering it.

    A message that cannot be rendered counts as 0.
    """

    def least(message: object) -> int:
        role, content = (message.get(key) for key in ("role", "content")) if isinstance(message, Mapping) else ("", "")
        if role not in ROLES or not isinstance(content, str):
            return 0
        around = template[role]
        return len(around) + around.count("{content}") * (len(content.strip()) // MOST_COMPOSED - len("{content}"))

    return sum(map(least, messages)) if isinstance(messages, Sequence) and not isinstance(messages, str) else 0


def composed(text: str) -> str:
    """Return `text` in Unicode NFC, as in the training data: ğ as one character, not as g and a breve.

    A text with more than a thousand combining marks in a row is returned as it is. So are characters that are newer
    than Python's Unicode database.
    """
    return text if text.isascii() or MARKS.search(text) else unicodedata.normalize("NFC", text)


def is_blank(text: str) -> bool:
    """Return whether `text` has no visible character."""
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
