"""The errors of this package: each is a `DiffutronError` and also the builtin that fits."""

MOST = 2000  # characters of a message


class DiffutronError(Exception):
    """Anything this package refuses or fails at; the message names the value, what is allowed and what to do."""

    def __str__(self) -> str:
        """Return the message, shortened in the middle where it quotes more than anybody reads."""
        text = super().__str__()
        return text if len(text) <= MOST else f"{text[: MOST * 2 // 3]} … {text[-MOST // 4 :]}"


class OptionError(DiffutronError, ValueError):
    """An option, or a combination of options, that has no meaning."""


class InputError(DiffutronError, ValueError):
    """A prompt, message or text that cannot be generated from."""


class ContextError(InputError):
    """Prompt and new tokens together are longer than the model's context."""


class BundleError(DiffutronError, ValueError):
    """A bundle whose contents are not what its manifest says."""


class BundleFileError(BundleError, FileNotFoundError):
    """A bundle, or a file of one, that is not there."""


class ProviderError(DiffutronError, RuntimeError):
    """ONNX Runtime cannot run the model where it was asked to."""


class NumericsError(DiffutronError, ArithmeticError):
    """The model returned a value that is not finite."""


class CheckpointError(DiffutronError, ValueError):
    """A checkpoint or adapter that the exporter cannot turn into a bundle."""


class FidelityError(DiffutronError, ArithmeticError):
    """An exported graph that differs from its reference by more than the recipe allows."""


class DiffutronWarning(UserWarning):
    """Something that is done as asked, though it is probably not what was meant; the message says why."""
