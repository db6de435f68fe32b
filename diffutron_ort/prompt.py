"""Messages to prompt text: the chat template that the model was taught with."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

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


def render_chat(messages: Sequence[Mapping[str, str]], template: Mapping[str, str] = CHAT_TEMPLATE) -> str:
    """Return the prompt that asks the model to answer the last of `messages`.

    Args:
        messages: Each has a `role` (system, user or assistant) and a `content`, which is trimmed. A system message
            can only be the first, and the last must be the user's.
        template: What each role's message becomes, with `{content}` in its place, and under `generation` what asks
            for an answer.

    Raises:
        InputError: There is no message, or one cannot be rendered. The reference drops such messages silently.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise InputError(f"messages={messages!r}: must be a list of at least one message with a role and a content")
    rendered = [_render(message, place, template) for place, message in enumerate(messages)]
    if messages[-1]["role"] != "user":
        raise InputError(f"the last message has role {messages[-1]['role']!r}: it must be the user's, to be answered")
    return "".join(rendered) + template["generation"]


def _render(message: Mapping[str, str], place: int, template: Mapping[str, str]) -> str:
    if not isinstance(message, Mapping) or message.keys() != {"role", "content"}:
        raise InputError(f"message {place} is {message!r}: must have a role and a content, and nothing else")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise InputError(f"message {place} has role {role!r}: must be one of {', '.join(ROLES)}")
    if role == "system" and place > 0:
        raise InputError(f"message {place} has role 'system': only the first message can have it")
    if not isinstance(content, str):
        raise InputError(f"message {place} has content of type {type(content).__name__}: must be a string")
    return template[role].replace("{content}", content.strip())
