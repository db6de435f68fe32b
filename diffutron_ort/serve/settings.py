"""The settings of a server: their names, defaults, bounds, help and flags."""

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from diffutron_ort.brief import brief
from diffutron_ort.config import checked
from diffutron_ort.errors import OptionError

Default = TypeVar("Default")

DAY = 86_400.0  # seconds
MOST_TEXT = 4096  # characters of a name or a path
MOST_TEXTS = 1000


class Form(NamedTuple):
    """What each of several texts must look like.

    Attributes:
        pattern: Matches the whole text.
        words: The same for people.
        is_secret: Whether the text is kept out of messages.
    """

    pattern: re.Pattern[str]
    words: str
    is_secret: bool = False


AUTHORITY = r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?"
PROVIDER = Form(re.compile(r"\w{1,80}", re.ASCII), "must be names of execution providers, such as cpu")
KEY = Form(re.compile("[!-~]{1,512}"), "a key must be 1 to 512 visible ASCII characters without spaces", True)
ORIGIN = Form(
    re.compile(rf"\*|[a-z][a-z0-9+.-]*://{AUTHORITY}", re.ASCII),
    "must be a scheme, a host and perhaps a port, such as https://example.com:8443, or *",
)
HOST = Form(
    re.compile(AUTHORITY, re.ASCII), "must be a host and perhaps a port, such as example.com or example.com:8443"
)


def setting(
    default: Default,
    meaning: str,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    least: float | None = None,
    most: float | None = None,
    form: Form | None = None,
) -> Default:
    """Return a field of `Settings`; checks, flags and documents are made from its metadata.

    Args:
        default: Its default.
        meaning: What it does, for people: `metadata["help"]`.
        flag: What the command line calls it, where that is not the field's name.
        metavar: What its help calls a value, where that is not the end of the flag.
        least: The smallest number allowed.
        most: The largest.
        form: What each text of several must look like.
    """
    allowed = {"least": least, "most": most, "or_zero": False, "choices": None, "form": form}
    return field(default=default, metadata={"help": meaning, "flag": flag, "metavar": metavar, **allowed})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a server serves, where, to whom, and how much of everything.

    An instance always holds valid values. The fields up to `spin` are the arguments of `Diffutron.from_pretrained`.
    Every bound but `max_connections` is that of one process.
    """

    model: str | None = setting(None, "the model; none is the embedded demonstration")
    variant: str | None = setting(None, "which of the bundle's variants to run")
    revision: str | None = setting(None, "commit, tag or branch of a hub id")
    providers: tuple[str, ...] = setting(
        (), "execution providers, in order of preference", flag="provider", form=PROVIDER
    )
    threads: int | None = setting(None, "threads for each operator", least=1, most=1024)
    spin: bool = setting(False, "let idle threads busy-wait, which takes time from those that parse and write")

    name: str | None = setting(None, "what the API calls the model (default: the bundle's own name)")
    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0 or :: is every one of this machine")
    port: int = setting(8000, "port to listen on; 0 is any free one", least=0, most=65_535)
    uds: str | None = setting(None, "Unix socket to listen on instead of host and port", metavar="PATH")
    processes: int = setting(1, "worker processes, each with its own model and queue", least=1, most=64)

    api_keys: tuple[str, ...] = setting((), "a key, one of which every request must have", flag="api-key", form=KEY)
    cors: tuple[str, ...] = setting(
        (), "origin whose pages may use the API, such as https://example.com; * is any", metavar="ORIGIN", form=ORIGIN
    )
    allow_hosts: tuple[str, ...] = setting(
        (), "name that clients may call this server by, such as example.com", flag="allow-host", form=HOST
    )
    allow_tags: bool = setting(False, "let the chat template's tags such as [Question] through in messages")
    log_text: bool = setting(False, "write the texts of requests and answers into the log")

    max_queue: int = setting(256, "sequences that may wait; more are refused with 429", least=0, most=1_000_000)
    max_batch: int = setting(8, "sequences that share a pass", least=1, most=1024)
    max_steps: int = setting(1024, "denoising steps that a request may ask for", least=1, most=65_536)
    max_passes: int = setting(
        4096, "passes that the scores or decisions of a request can take at most", least=1, most=1_000_000
    )
    max_sequences: int = setting(64, "sequences of a request: its prompts times n", least=1, most=1_000_000)
    max_body: int = setting(2**20, "bytes in the body of a request", least=1, most=2**30)
    max_connections: int = setting(1024, "connections at once; more are closed", least=1, most=1_000_000)

    deadline: float = setting(300.0, "seconds for the whole answer to a request", least=0.001, most=DAY)
    header_timeout: float = setting(10.0, "seconds for the head of a request", least=0.001, most=DAY)
    body_timeout: float = setting(30.0, "seconds for the body of a request", least=0.001, most=DAY)
    idle_timeout: float = setting(75.0, "seconds until a connection without a request is closed", least=0.0, most=DAY)
    pass_timeout: float = setting(
        60.0, "seconds after which a pass counts as hanging, and its process ends", least=0.001, most=DAY
    )
    grace: float = setting(30.0, "seconds to finish what was accepted, once told to end", least=0.0, most=DAY)

    def __post_init__(self) -> None:
        """Normalise and check every value.

        Raises:
            OptionError: A value is out of bounds or of the wrong type.
        """
        for spec in fields(self):
            check = _CHECKS.get(spec.type, checked)
            object.__setattr__(self, spec.name, check(spec, getattr(self, spec.name)))

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can connect over TCP."""
        return self.host.lower() == "localhost" or _is_loopback(self.host)

    def __repr__(self) -> str:
        """Return the fields without the keys, which must not get into a log."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        values["api_keys"] = ("…",) * len(self.api_keys)
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def flag(spec: Field[Any]) -> str:
    """Return what the command line calls a field, without the dashes."""
    name: str = spec.metadata["flag"] or spec.name.replace("_", "-")
    return name


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _text(spec: Field[Any], value: Any) -> str:
    is_text = isinstance(value, str) and 0 < len(value) <= MOST_TEXT and value.isprintable()
    if not is_text:
        raise OptionError(f"{spec.name}={brief(value)}: must be one line of 1 to {MOST_TEXT} characters")
    return str(value)


def _optional(check: Callable[[Field[Any], Any], Any]) -> Callable[[Field[Any], Any], Any]:
    """Return a check that lets None through."""
    return lambda spec, value: None if value is None else check(spec, value)


def _texts(spec: Field[Any], value: Any) -> tuple[str, ...]:
    form: Form = spec.metadata["form"]
    texts = (value,) if isinstance(value, str) else value
    is_list = isinstance(texts, list | tuple) and len(texts) <= MOST_TEXTS
    if not (is_list and all(isinstance(text, str) and form.pattern.fullmatch(text) for text in texts)):
        raise OptionError(f"{spec.name}{'' if form.is_secret else f'={brief(value)}'}: {form.words}")
    return tuple(texts)


_CHECKS: Mapping[Any, Callable[[Field[Any], Any], object]] = MappingProxyType(
    {
        str: _text,
        str | None: _optional(_text),
        int | None: _optional(lambda spec, value: checked(spec, value, int)),
        tuple[str, ...]: _texts,
    }
)
"""The checks for types of fields that differ from those of generation options."""
