"""The generations that are recorded of a variant: one of each kind, where one can be kept.

One of an exact variant is kept if an error a hundred times that of its fidelity card could not change a step of it, so
that rounding on other hosts does not. For a quantized variant no such error is known, because what a host rounds
differently is quantized again: its cases are what this machine generates, and hosts are judged by the share of equal
tokens.
"""

from collections.abc import Iterator

from diffutron_ort.bundle.conformance import Case
from diffutron_ort.bundle.manifest import Variant
from diffutron_ort.checks.replay import answered, completed, sequence
from diffutron_ort.errors import ContextError, OptionError
from diffutron_ort.model import Diffutron
from diffutron_ort_export.check.margins import clear_steps
from diffutron_ort_export.kinds import KINDS, SMALLEST, Kind, Options
from diffutron_ort_export.passages import QUESTIONS

MARGIN = 100
"""How many times the error of the fidelity card may be without changing a step."""

LEAST_ERROR = 1e-6
"""The least error of a logit, whatever the fidelity card says: float32 rounds one from 8 to 16 by half of that."""

WARMEST = 1.0
"""The highest temperature at which a quantized variant is recorded.

Draws beyond the candidates walk the ids, so that all of them move when one token ceases to be a candidate.
"""


def generations(model: Diffutron, name: str) -> Iterator[Case]:
    """Yield the cases of a model, which runs the variant called `name`."""
    recorder = Recorder(model, name)
    for number, kind in enumerate(KINDS):
        if (case := recorder.case(kind, number)) is not None:
            yield case


def allowed_error(variant: Variant) -> float | None:
    """Return the error of a logit that must not change a step, or None if the variant is not exact."""
    return MARGIN * max(float(variant.fidelity["max_abs"]), LEAST_ERROR) if variant.is_exact else None


class Recorder:
    """Records cases of one variant."""

    def __init__(self, model: Diffutron, name: str) -> None:
        self.model, self.name = model, name
        self.error = allowed_error(model.bundle.variants[name])
        self._plain: dict[tuple[str, bool], Case] = {}

    def case(self, kind: Kind, number: int) -> Case | None:
        """Return the first case of a kind that can be kept, the questions taken in turn from `number` on."""
        for place in range(len(QUESTIONS)):
            prompt = QUESTIONS[(number + place) % len(QUESTIONS)]
            for options in self._choices(kind, prompt):
                if (kept := self._kept(self._asked(prompt, kind.template, options))) is not None:
                    return kept
        return None

    def _choices(self, kind: Kind, prompt: str) -> Iterator[Options]:
        """Yield the options of a kind for a prompt."""
        if not callable(kind.options):
            yield kind.options
            return
        asked = prompt, kind.template
        if asked not in self._plain:
            self._plain[asked] = answered(self._asked(*asked, SMALLEST), self.model)
        yield from kind.options(self._plain[asked], self.model)

    def _asked(self, prompt: str, template: bool, options: Options) -> Case:
        """Return a case without its steps."""
        whole = dict(sorted({**self.model.bundle.options, **options}.items()))
        return Case(self.name, self.error is not None, prompt, template, whole)

    def _kept(self, case: Case) -> Case | None:
        """Return a case with its steps, or None if it does not fit the model or another host may take other steps."""
        try:
            given = sequence(case, self.model)
        except (ContextError, OptionError):  # the bundle's options may contradict the case's
            return None
        if self.error is None:
            return answered(case, self.model) if case.config.temperature <= WARMEST else None
        steps = clear_steps(given, self.model.forward, self.error)
        return None if steps is None else completed(case, steps)
