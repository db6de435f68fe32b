"""Turkish text generation with the masked-diffusion language model DiffutronLM, on numpy and ONNX Runtime."""

from importlib import import_module

from diffutron_ort._version import __version__

TYPE_CHECKING = False  # as in `typing`, whose import takes longer than all else here
if TYPE_CHECKING:
    from diffutron_ort.completion import Completion
    from diffutron_ort.config import GenerationConfig
    from diffutron_ort.model import Diffutron
    from diffutron_ort.sampler.sequence import Step
else:
    _HOMES = {
        "Diffutron": "model",
        "GenerationConfig": "config",
        "Step": "sampler.sequence",
        "Completion": "completion",
    }

    def __getattr__(name):
        """Import what is asked for: the command line starts before numpy is there, and is ready for an interrupt."""
        module = f"{__name__}.{_HOMES.get(name, name)}"
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        return getattr(found, name) if name in _HOMES else found


__all__ = ["Completion", "Diffutron", "GenerationConfig", "Step", "__version__"]
