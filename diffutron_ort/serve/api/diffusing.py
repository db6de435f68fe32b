"""Streams that show the whole canvas: what a client draws after each step."""

import numpy as np

from diffutron_ort.model import Diffutron
from diffutron_ort.sampler.sequence import Sequence, Step
from diffutron_ort.serve.api.logprobs import text_of
from diffutron_ort.serve.api.responses import Diffusing
from diffutron_ort.text.stopping import Ends


class Canvas:
    """The generated span of one sequence, as events tell of it."""

    def __init__(self, model: Diffutron, sequence: Sequence) -> None:
        self._model, self._start = model, sequence.initial.start
        self._length = len(sequence.initial.generated)
        self._masks = sequence.initial.masks(model.bundle.special.mask).size
        self._ends = Ends(model.bundle.special, [ids for _, ids in model.bundle.stop_sequences])

    def before(self) -> Diffusing:
        """Return the canvas before the first step."""
        return Diffusing(0, 0, self._masks, self._length, [], [], [], None, full=True)

    def after(self, step: Step) -> Diffusing:
        """Return the canvas after a step; masks of the prompt that it filled are not told."""
        within = np.flatnonzero(step.positions >= self._start)
        positions = step.positions[within]
        return Diffusing(
            step=step.index + 1,
            block=step.block,
            masks=step.masks_left,
            length=self._length,
            positions=(positions - self._start).tolist(),
            tokens=[text_of(self._model.tokenizer, token) for token in step.ids[positions].tolist()],
            confidence=[round(float(sure), 6) for sure in step.confidence[within]],
            beyond=self._beyond(step),
            full=step.is_full,
        )

    def _beyond(self, step: Step) -> int | None:
        """Return the first place that will not be read, after the sequence or control token that ends the answer."""
        span = step.ids[self._start : self._start + self._length]
        end = self._ends.find(self._ends.committed(span))
        if end is None:
            return None
        special = self._model.bundle.special
        return end.begin if span[end.begin] in (special.pad, special.eos) else end.complete
