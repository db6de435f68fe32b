"""The providers that a session gets: those that were asked for, or the best that can be used here."""

import warnings
from collections.abc import Sequence

from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.errors import DiffutronWarning, ProviderError
from diffutron_ort.runtime.cuda import missing, troubles
from diffutron_ort.runtime.opening import cuda_version, import_onnxruntime
from diffutron_ort.runtime.providers import PROVIDERS, Provider, automatic_providers, unavailable, unloaded

CUDA = PROVIDERS["cuda"]


def usable_providers(asked: Sequence[Provider], bundle: Bundle, variant: str) -> list[Provider]:
    """Return the providers that were asked for, or the automatic ones that can be used; load CUDA's libraries for it.

    Args:
        asked: What the user asked for; empty for the automatic ones.
        bundle: The bundle.
        variant: The name of its variant.

    Raises:
        ProviderError: ONNX Runtime lacks a provider that was asked for, or CUDA was and cannot be used.
    """
    available = import_onnxruntime(bundle.least_onnxruntime).get_available_providers()
    for provider in asked:
        if provider.full_name not in available:
            raise ProviderError(unavailable(provider, available))
    if CUDA in asked and (found := list(troubles(cuda_version()))):
        raise ProviderError(f"provider {CUDA.name!r} cannot be used. {'. '.join(map(str, found))}")
    automatic = automatic_providers(bundle, variant, available)
    return list(asked) or [provider for provider in automatic if provider != CUDA or _is_cuda_usable()]


def check_loaded(asked: Sequence[Provider], loaded: Sequence[str]) -> None:
    """Check that a session has the providers that were asked for; `loaded` are the full names of those that it has.

    Raises:
        ProviderError: It lacks one.
    """
    for provider in asked:
        if provider.full_name not in loaded:
            raise ProviderError(unloaded(provider, missing(cuda_version()) if provider == CUDA else ()))


def warn_of_cpu(reason: str) -> None:
    """Warn that a model runs on the CPU where a GPU could have been expected."""
    said = f"{reason}. The model runs on the CPU instead; choose the provider cpu to silence this"
    warnings.warn(said, DiffutronWarning, stacklevel=2)


def _is_cuda_usable() -> bool:
    """Return whether CUDA can be used here; warn if it cannot although there may be a GPU."""
    trouble = next(troubles(cuda_version()), None)
    if trouble and not trouble.is_absence:
        warn_of_cpu(f"CUDA cannot be used. {trouble}")
    return trouble is None
