"""A plugin for llm: DiffutronLM in llm's own process."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import Field, fields
from functools import cached_property
from typing import Annotated, Any, Optional

import llm
from pydantic import AfterValidator, BeforeValidator, create_model
from pydantic import Field as Described

from diffutron_ort import Completion, Diffutron, GenerationConfig
from diffutron_ort.bundle.exported import exports
from diffutron_ort.config import PRESETS, preset_options
from diffutron_ort.errors import DiffutronError

PREFIX = "diffutron"
Arguments = Mapping[str, str | None]  # of `from_pretrained`


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Register nano, what `DIFFUTRON_MODEL` names, and the checkpoints that were exported on this machine."""
    sources = _sources()
    usual = os.environ.get("DIFFUTRON_MODEL") or "nano"
    for name, arguments in sources.items():
        register(Model(f"{PREFIX}/{name}", arguments), aliases=(PREFIX,) if name == usual else ())


def _sources() -> Mapping[str, Arguments]:
    """Return the arguments of `from_pretrained` for each model, by its name."""
    found: dict[str, Arguments] = {"nano": {}}
    with suppress(DiffutronError):  # a cache that cannot be read is no reason for llm not to start
        for export in exports():
            if export.is_complete:
                arguments = {"model": export.source, "variant": export.variant, "revision": export.commit}
                found[f"{export.name}:{export.variant}"] = arguments
    if named := os.environ.get("DIFFUTRON_MODEL"):
        found[named] = {"model": named}
    return found


def _listed(value: Any) -> Any:
    """Return a list for what the command line gives in place of one: JSON, or its only item."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.startswith("[") else [value]


def _option(spec: Field[Any]) -> Any:
    """Return the type of an option, and its meaning: it is checked as the library checks it, and None is unset."""

    def check(value: Any) -> Any:
        return getattr(GenerationConfig(**{spec.name: value}), spec.name)

    kind = Annotated[spec.type, AfterValidator(check)]
    if isinstance(spec.default, tuple):
        kind = Annotated[kind, BeforeValidator(_listed)]
    return Optional[kind], Described(None, description=spec.metadata["help"])  # noqa: UP045 - of a value, not written


def _preset(name: str) -> str:
    preset_options(name)
    return name


OPTIONS: Mapping[str, Any] = {
    "preset": (
        Optional[Annotated[str, AfterValidator(_preset)]],  # noqa: UP045
        Described(None, description=f"options by one name: {', '.join(PRESETS)}"),
    ),
    **{spec.name: _option(spec) for spec in fields(GenerationConfig)},
}


class Model(llm.Model):
    """A model that is loaded when it is first asked something."""

    can_stream = True
    Options = create_model("Options", __base__=llm.Options, **OPTIONS)

    def __init__(self, model_id: str, arguments: Arguments) -> None:
        self.model_id, self._arguments = model_id, arguments

    @cached_property
    def _loaded(self) -> Diffutron:
        return Diffutron.from_pretrained(**self._arguments)

    def execute(self, prompt: llm.Prompt, stream: bool, response: llm.Response, conversation: Any) -> Iterator[str]:  # noqa: ARG002
        """Yield the answer as it settles."""
        options = {name: value for name, value in prompt.options if value is not None}
        steps, sent = [], 0
        for step in self._loaded.stream(_messages(prompt), **options):
            steps.append(step)
            if more := step.settled[sent:]:
                sent = len(step.settled)
                yield more
        completion = Completion.of(steps)
        response.set_usage(input=completion.prompt_tokens, output=completion.completion_tokens)


def _messages(prompt: llm.Prompt) -> list[dict[str, str]]:
    """Return the conversation up to the prompt, as the library takes it."""
    return [
        {"role": message.role, "content": "".join(part.text for part in message.parts)} for message in prompt.messages
    ]
