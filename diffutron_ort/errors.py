"""The exceptions of this package. Each is a `DiffutronError` and also the built-in exception that fits."""

MOST = 2000  # characters of a message


class DiffutronError(Exception):
    """Base class. Every message names the value, what is allowed, and what to do."""

    def __str__(self) -> str:
        """Return the message; cut out its middle if it is very long."""
        text = super().__str__()
        return text if len(text) <= MOST else f"{text[: MOST * 2 // 3]} … {text[-MOST // 4 :]}"


class OptionError(DiffutronError, ValueError):
    """An option, or a combination of options, is not allowed."""


class InputError(DiffutronError, ValueError):
    """A prompt, message or text cannot be used as input."""


class ContextError(InputError):
    """The prompt and the new tokens together exceed the model's context."""


class BundleError(DiffutronError, ValueError):
    """A bundle is malformed, or does not match its manifest."""


class BundleFileError(BundleError, FileNotFoundError):
    """A bundle, or a file of a bundle, is missing."""


class ProviderError(DiffutronError, RuntimeError):
    """ONNX Runtime cannot run the model on the requested provider."""


class NumericsError(DiffutronError, ArithmeticError):
    """The model returned a value that is not finite.

    Attributes:
        sequence: The index of the sequence whose value it is, among those that took the step.
    """

    sequence: int = 0


class CheckpointError(DiffutronError, ValueError):
    """A checkpoint or an adapter cannot be exported."""


class FidelityError(DiffutronError, ArithmeticError):
    """An exported graph differs from its reference by more than its recipe allows."""


class DiffutronWarning(UserWarning):
    """A request is carried out, but is probably not what the user meant; the message says why."""
