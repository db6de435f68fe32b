"""What the API calls the model, and how a client can tell that it has changed."""

import hashlib
import time
from dataclasses import asdict
from typing import Any

from diffutron_ort._version import __version__
from diffutron_ort.brief import brief
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.config import PRESET_OPTIONS
from diffutron_ort.model import Diffutron
from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.settings import Settings


class Identity:
    """The name of a model, and its fingerprint.

    Attributes:
        name: In the API.
        fingerprint: Of the bundle, the variant and this release; the same request gets the same answer while it lasts.
        variant: The bundle's variant that runs.
        created: When it was loaded, in seconds since 1970.
    """

    def __init__(self, model: Diffutron, settings: Settings) -> None:
        bundle = model.bundle
        self.variant = settings.variant or bundle.default_variant
        self.name = settings.name or bundle.source.get("name") or bundle.folder.name
        content = (bundle.folder / MANIFEST).read_bytes() + f"{self.variant} {__version__}".encode()
        self.fingerprint = f"fp_{hashlib.sha256(content).hexdigest()[:12]}"
        self.created, self._model = int(time.time()), model

    def check(self, asked: str | None) -> None:
        """Refuse a request for another model.

        Raises:
            ApiError: It is not the one that is served.
        """
        if asked not in (None, self.name):
            message = f"there is no model {brief(asked)} here: this server has {self.name!r}"
            raise ApiError(404, message, code="model_not_found", param="model")

    def facts(self) -> dict[str, Any]:
        """Return what a client may want to know of the model."""
        bundle = self._model.bundle
        return {
            "variant": self.variant,
            "context_length": bundle.context_length,
            "batch_invariant": self._model.forward.batch_invariant,
            "release": __version__,
            "options": asdict(self._model.config()),
            "presets": {name: asdict(self._model.config(name)) for name in PRESET_OPTIONS},
        }
