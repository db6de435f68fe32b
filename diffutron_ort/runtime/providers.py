"""ONNX Runtime's execution providers: one row for each that has a short name."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import Bundle
from diffutron_ort.errors import OptionError
from diffutron_ort.runtime.cuda import INSTALL


class Provider(NamedTuple):
    """An execution provider.

    Attributes:
        name: Its short name, for users and manifests.
        full_name: ONNX Runtime's name for it.
        device: ONNX Runtime's name for the memory that its values are in.
        is_automatic: Whether it is used, where available, if the user asks for none.
        in_buckets: Whether passes are padded to few shapes, because each new shape costs it time.
        package: The package of ONNX Runtime that has it; None if unknown.
        extra: The extra of this package that installs `package`.
    """

    name: str
    full_name: str
    device: str = "cpu"
    is_automatic: bool = False
    in_buckets: bool = False
    package: str | None = None
    extra: str | None = None


_ROWS = (  # in order of preference
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        "cuda",
        is_automatic=True,
        in_buckets=True,
        package="onnxruntime-gpu",
        extra="gpu",
    ),
    Provider("cpu", "CPUExecutionProvider", is_automatic=True, package="onnxruntime", extra="cpu"),
)
PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in _ROWS}
PACKAGES = (  # of ONNX Runtime: each installs a module onnxruntime, over that of another
    *sorted({provider.package for provider in _ROWS if provider.package}),
    *(f"onnxruntime-{name}" for name in ("directml", "migraphx", "openvino", "qnn", "rocm", "training", "webgpu")),
    *("ort-nightly", "ort-nightly-gpu"),
)
_BY_FULL_NAME = {provider.full_name: provider for provider in _ROWS}


def provider_of(full_name: str) -> Provider:
    """Return the row of a provider; one that the table lacks is run as the CPU is."""
    return _BY_FULL_NAME.get(full_name) or Provider(full_name, full_name)


def named_providers(names: Sequence[str] | str | None) -> list[Provider]:
    """Return the providers that a user asks for, by short names or ONNX Runtime's; none for None.

    Raises:
        OptionError: The argument is not a list of names.
    """
    if isinstance(names, str):
        names = [names]
    if names is not None and not (isinstance(names, Sequence) and all(isinstance(name, str) for name in names)):
        raise OptionError(f"providers={brief(names)}: must be names, such as {', '.join(PROVIDERS)}")
    return [PROVIDERS.get(name) or provider_of(name) for name in names or ()]


def check_variant(bundle: Bundle, name: str, providers: Sequence[Provider]) -> None:
    """Check that a variant can run on the providers that the user asks for. Providers without a row always pass.

    Raises:
        OptionError: It cannot; the message lists the variants that can.
    """
    known = [provider.name for provider in providers if provider.name in PROVIDERS]
    bad = [provider for provider in known if not bundle.variants[name].runs_on(provider)]
    if bad:
        others = [other for other, v in bundle.variants.items() if all(map(v.runs_on, known))]
        remedy = f"use variant {' or '.join(others)}, or leave the provider out" if others else "leave the provider out"
        allowed = " and ".join(bundle.variants[name].providers or ())
        raise OptionError(f"variant {name!r} runs on {allowed} only, not on {bad[0]}: {remedy}")


def automatic_providers(bundle: Bundle, name: str, available: Sequence[str]) -> list[Provider]:
    """Return the providers for a user who asks for none: those available that can run the variant, the best first.

    Args:
        bundle: The bundle.
        name: The name of its variant.
        available: The full names of the available providers.
    """
    return [
        provider
        for provider in _ROWS
        if provider.is_automatic and bundle.variants[name].runs_on(provider.name) and provider.full_name in available
    ]


def unavailable(provider: Provider, available: Sequence[str]) -> str:
    """Return the message that a provider is not among those `available`, and what to install."""
    said = f"provider {brief(provider.full_name)} is not available: ONNX Runtime has {', '.join(available)} here"
    installed = installed_runtimes()
    if len(installed) > 1:
        return f"{said}. {_conflict(installed)}"
    if provider.package and provider.package not in installed:
        first = f"pip uninstall {installed[0]} (the two overwrite each other), then " if installed else ""
        return f"{said}. Try: {first}pip install 'diffutron-ort[{provider.extra}]'"
    return said


def unloaded(provider: Provider, absent: Sequence[object]) -> str:
    """Return the message that ONNX Runtime has a provider and does not load it; the `absent` libraries may be why."""
    why = f", perhaps for want of {', '.join(map(str, absent))}: {INSTALL}" if absent else ""
    said = f"provider {brief(provider.full_name)} is not available: ONNX Runtime has it, but does not load it{why}"
    return f"{said}. See diffutron-ort doctor"


def how_to_install() -> str:
    """Return the commands that install ONNX Runtime, the plainest first."""
    return f"pip install {', or '.join(_wanted(provider) for provider in reversed(_ROWS) if provider.extra)}"


def broken_installation() -> str:
    """Return the message that ONNX Runtime can be imported but not used."""
    installed = installed_runtimes()
    remedy = _conflict(installed) if len(installed) > 1 else "Uninstall it, then install it again"
    return f"the installed ONNX Runtime is broken. {remedy}"


def _wanted(provider: Provider) -> str:
    return f"'diffutron-ort[{provider.extra}]' for {provider.name}"


def conflict(installed: Sequence[str]) -> str:
    """Return the message that several packages of ONNX Runtime are installed."""
    return (
        f"{' and '.join(installed)} are {'both' if len(installed) == 2 else 'all'} installed, and overwrite each other"
    )


def _conflict(installed: Sequence[str]) -> str:
    return f"{conflict(installed)}: uninstall {'both' if len(installed) == 2 else 'all'}, then install one"


def installed_runtimes() -> list[str]:
    """Return the installed packages of ONNX Runtime; more than one is a mistake."""
    from importlib import metadata  # takes 10 ms to import, and only an error needs it

    return [package for package in PACKAGES if any(True for _ in metadata.distributions(name=package))]


def mend_conflict(installed: Sequence[str], wanted: Provider | None = None) -> str:
    """Return the commands that leave one package of ONNX Runtime: that of `wanted`, or of the user's choice."""
    again = f"pip install 'diffutron-ort[{wanted.extra}]'" if wanted else how_to_install()
    return f"pip uninstall -y {' '.join(installed)}, then {again}"
