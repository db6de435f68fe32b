"""How many prompts did not fit into the model's context: a prompt that was cut is scored all the same, and reported."""

from collections import defaultdict
from typing import Any, NamedTuple


class Fit(NamedTuple):
    """How the prompts of a task fitted into the model's context.

    Attributes:
        documents: Documents that were asked about.
        cut: How many of them had a prompt that was too long for at least one of its continuations.
        tokens: The most tokens that were left out at the beginning of one of these.
    """

    documents: int
    cut: int
    tokens: int

    @property
    def share(self) -> float:
        """The share of documents whose prompt was cut, from 0 to 1."""
        return self.cut / self.documents if self.documents else 0.0


class Fits:
    """Counts the prompts that did not fit, by task."""

    def __init__(self) -> None:
        self._cut: dict[str, dict[Any, int]] = defaultdict(dict)

    def note(self, request: Any, tokens: int) -> None:
        """Note a request to lm-eval's model, and how many tokens of its prompt were left out."""
        documents = self._cut[str(request.task_name)]
        documents[request.doc_id] = max(tokens, documents.get(request.doc_id, 0))

    def of(self, task: str) -> Fit:
        """Return how the prompts of a task fitted; of a task that was not run, there are none."""
        documents = self._cut.get(task, {}).values()
        return Fit(len(documents), sum(map(bool, documents)), max(documents, default=0))
