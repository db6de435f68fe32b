"""Turns a checkpoint's generation_config.json into the options of its bundle."""

import warnings
from typing import Any

from diffutron_ort.config import OPTION_NAMES, GenerationConfig
from diffutron_ort.errors import DiffutronWarning, OptionError
from diffutron_ort.files import CHECKPOINT, Fields
from diffutron_ort.text.chat_template import CHAT_TEMPLATE, render_chat
from diffutron_ort_export.checkpoint.source import GENERATION, Source

IDS = ("cfg_keep_tokens", "suppress_tokens", "penalty_exempt")


def generation_defaults(source: Source, context_length: int) -> dict[str, Any]:
    """Return the sampler's options that a source's generation_config.json sets; null is not set.

    The file belongs to the ecosystem, so it may hold other settings, such as `do_sample`, which are ignored.

    Raises:
        CheckpointError: A value is of another type.
        OptionError: A value has no meaning.
    """
    given = Fields(source.generation, GENERATION, CHECKPOINT)
    found = {name: given.values[name] for name in given if name in OPTION_NAMES and name in given}
    try:
        config = GenerationConfig(**found)
        check_ids(config, source)
    except OptionError as error:
        raise OptionError(f"{GENERATION} of {source.name}: {error}; correct it, or take it out") from error
    return {name: getattr(config, name) for name in found} | shortened(config.max_new_tokens, context_length, source)


def check_ids(config: GenerationConfig, source: Source) -> None:
    """Check that all ids are in the vocabulary, and that not every token is suppressed."""
    for name in IDS:
        if (largest := max(getattr(config, name), default=0)) >= source.shape.vocab_size:
            raise OptionError(f"{name} holds {largest}: ids are below {source.shape.vocab_size}")
    if set(config.suppress_tokens).issuperset(source.output_vocabulary or range(source.shape.vocab_size)):
        raise OptionError("suppress_tokens holds the whole vocabulary: leave a token to choose")


def shortened(wanted: int, context_length: int, source: Source) -> dict[str, int]:
    """Return a shorter `max_new_tokens` if the wanted one leaves no room for a prompt, else nothing; warn of it."""
    shortest = render_chat([{"role": "user", "content": "a"}], CHAT_TEMPLATE)
    prompt = len(source.tokenizer.encode(shortest))
    if prompt + wanted <= context_length:
        return {}
    new = max(1, min(context_length // 2, context_length - prompt))
    warnings.warn(
        f"a context of {context_length} tokens has no room for a prompt and max_new_tokens={wanted}: the bundle's "
        f"default is {new}; choose a longer context, or a smaller number in {GENERATION}",
        DiffutronWarning,
        stacklevel=2,
    )
    return {"max_new_tokens": new}
