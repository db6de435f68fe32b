"""Score documents one after the other, of which a bounded number is held."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from diffutron_ort.errors import InputError, NumericsError
from diffutron_ort.model import Diffutron
from diffutron_ort.perplexity.documents import Document
from diffutron_ort.perplexity.result import Result
from diffutron_ort.sampler.engine import batch_size
from diffutron_ort.scoring.options import unpenalised
from diffutron_ort.scoring.score import Score
from diffutron_ort.scoring.work import finished
from diffutron_ort.text.chat_template import is_blank
from diffutron_ort.text.tokenizer import check_text

METHOD, SAMPLES = "elbo", 16
"""What is affordable on a file: at most 16 passes a window, where the exact methods take one for each of its tokens."""

MOST_TOGETHER = 4096  # characters of documents that are scored together: long ones fill passes alone

Report = Callable[[float], object]
"""Called while documents are scored, with how much of those at hand is done, from 0 to 1."""


def measured(
    model: Diffutron,
    documents: Iterable[str | Document],
    *,
    method: str = METHOD,
    samples: int = SAMPLES,
    stride: int | None = None,
    preset: str | None = None,
    report: Report = lambda _: None,
    **options: Any,
) -> Iterator[Result]:
    """Yield the result of each document, in order.

    Document i, counted from 0 without those that have no text or could not be read, has `seed` + i. So two models that
    score the same documents draw the same masks, and their differences are more certain than either figure.

    Args:
        model: Scores them.
        documents: Texts, or documents as `open_documents` reads them.
        method: As for `Diffutron.score`.
        samples: Of the method `elbo`, for each window.
        stride: As for `Diffutron.score`.
        preset: As for `Diffutron.score`.
        report: Called after each pass.
        **options: As for `Diffutron.score`; but the repetition penalty is 1 unless it is given.

    Raises:
        OptionError: An option is not allowed.
        ProviderError: ONNX Runtime fails.
        BundleError: The graph returned what no denoiser can have predicted.
    """
    how = {"method": method, "samples": samples, "stride": stride, "preset": preset, **unpenalised(method), **options}
    return _Run(model, how, report).results(documents)


class _Run:
    """Documents that are scored with the same options."""

    def __init__(self, model: Diffutron, how: Mapping[str, Any], report: Report) -> None:
        self._model, self._how, self._report = model, how, report
        self._seed = model.config(**({"seed": how["seed"]} if "seed" in how else {})).seed  # of the next document

    def results(self, documents: Iterable[str | Document]) -> Iterator[Result]:
        """Yield the result of each document."""
        for group in _groups(_documents(documents), batch_size(self._model.forward)):
            found = iter(self._tried([document for document in group if _has_text(document)]))
            for document in group:
                yield next(found) if _has_text(document) else Result(document.name, error=document.error)

    def _tried(self, group: Sequence[Document]) -> list[Result]:
        """Return the results of documents with text; if one of them cannot be scored, the others are."""
        try:
            scores = self._scores(group) if group else []
        except (InputError, NumericsError) as error:
            if len(group) > 1:
                return [result for document in group for result in self._tried([document])]
            self._seed += 1
            return [Result(group[0].name, error=error)]
        self._seed += len(group)
        return [Result(document.name, score) for document, score in zip(group, scores, strict=True)]

    def _scores(self, group: Sequence[Document]) -> list[Score]:
        options = {**self._how, "seed": self._seed % 2**64}
        return finished(self._model.scoring([document.text for document in group], **options), self._report)


def _documents(given: Iterable[str | Document]) -> Iterator[Document]:
    """Yield documents, those that are texts under their number from 0."""
    for number, one in enumerate(given):
        if isinstance(one, Document):
            yield one
            continue
        name = f"document {number}"
        try:
            check_text(one, name)
        except InputError as error:
            yield Document(name, error=error)
        else:
            yield Document(name, one)


def _groups(documents: Iterable[Document], most: int) -> Iterator[list[Document]]:
    """Yield documents in groups that are scored together."""
    group: list[Document] = []
    size = 0
    for document in documents:
        if group and (len(group) == most or size + len(document.text) > MOST_TOGETHER):
            yield group
            group, size = [], 0
        group.append(document)
        size += len(document.text)
    if group:
        yield group


def _has_text(document: Document) -> bool:
    return document.error is None and not is_blank(document.text)
