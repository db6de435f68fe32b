"""What is examined: an installation and a model, and what the checks have learnt of them."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from diffutron_ort.doctor.findings import Unexaminable
from diffutron_ort.doctor.probe import Probe, Probed
from diffutron_ort.errors import DiffutronError, DiffutronWarning

if TYPE_CHECKING:
    from diffutron_ort.bundle.looking import Unexported
    from diffutron_ort.bundle.manifest import Bundle
    from diffutron_ort.model import Diffutron

PACKAGES = ("numpy", "tokenizers", "onnxruntime")


@dataclass
class Subject:
    """An installation, and a model in it.

    Attributes:
        model: A folder or a hub id; None is the embedded model.
        revision: A commit, tag or branch of a hub id.
        variant: The variant that would run; None is the default.
    """

    model: str | None = None
    revision: str | None = None
    variant: str | None = None

    @cached_property
    def packages(self) -> dict[str, Probed]:
        """What became of the import of each package that the runtime needs."""
        probes = {name: Probe("import", name) for name in PACKAGES}
        return {name: probe.result() for name, probe in probes.items()}

    @cached_property
    def broken(self) -> dict[str, str]:
        """The packages that cannot be imported, with the reason."""
        return {name: probed.error for name, probed in self.packages.items() if probed.facts is None}

    @cached_property
    def place(self) -> "Path | Unexported":
        """The bundle's folder, or a checkpoint that is not exported yet; the Hub is not asked.

        Raises:
            DiffutronError: There is no such model here.
        """
        from diffutron_ort.bundle.looking import look

        return look(self.model, self.revision, self.variant, ask=False)

    @cached_property
    def bundle(self) -> "Bundle":
        """The bundle, its files checked as they are when it is loaded.

        Raises:
            Unexaminable: It is not here, or cannot be loaded.
        """
        from diffutron_ort.bundle.load import load_bundle

        try:
            if not isinstance(self.place, Path):
                raise Unexaminable("the model is not exported yet")
            return load_bundle(self.place, variant=self.variant)
        except DiffutronError as error:
            raise Unexaminable("the model's files cannot be used") from error

    @property
    def running(self) -> str:
        """The name of the variant that would run; errors are those of `bundle`."""
        return self.variant or self.bundle.default_variant

    @cached_property
    def loaded(self) -> "Diffutron":
        """The model; the check of ONNX Runtime says what there is to warn of.

        Raises:
            Unexaminable: As for `bundle`.
            DiffutronError: It cannot be loaded.
        """
        from diffutron_ort.model import Diffutron

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DiffutronWarning)
            return Diffutron.from_pretrained(self.bundle.folder, variant=self.running)
