"""Turkish text generation with the masked-diffusion language model DiffutronLM, on numpy and ONNX Runtime."""

from diffutron_ort._version import __version__
from diffutron_ort.config import GenerationConfig
from diffutron_ort.denoise import Step
from diffutron_ort.model import Diffutron

__all__ = ["Diffutron", "GenerationConfig", "Step", "__version__"]
