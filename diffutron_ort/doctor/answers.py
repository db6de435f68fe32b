"""Verify in short: the tokenizer, the uniforms, and the first steps of a recorded answer."""

from collections.abc import Iterator, Sequence

from diffutron_ort.bundle.conformance import Case, Pack, read_pack
from diffutron_ort.checks.replay import wrong_chats, wrong_start, wrong_tokens, wrong_uniforms
from diffutron_ort.doctor.findings import ERROR, NOTE, OK, Finding
from diffutron_ort.doctor.subject import Subject
from diffutron_ort.model import Diffutron

TOPIC = "answers"
MOST, SECONDS = 4, 2.0  # answers; after which no further step is taken
AGAIN = "export the model again; all that differs: diffutron-ort verify"


def check(subject: Subject) -> Iterator[Finding]:
    """Replay a few of the bundle's recorded cases."""
    pack, model = read_pack(subject.bundle), subject.loaded
    yield _texts(pack, model)
    cases = [case for case in pack.generations if case.variant == subject.running]
    cases.sort(key=lambda case: not case.exact)
    yield _steps(cases[:MOST], model, _whole(subject))


def _texts(pack: Pack, model: Diffutron) -> Finding:
    """Return the finding on texts encoded and decoded, prompts rendered, and uniforms hashed."""
    wrong = [
        *wrong_tokens(pack.tokens, model.tokenizer),
        *wrong_chats(pack.chats, model.bundle.chat_template),
        *wrong_uniforms(pack.uniforms),
    ]
    cases = len(pack.tokens) + len(pack.chats) + len(pack.uniforms)
    facts = {"cases": cases, "differences": len(wrong)}
    if wrong:
        return Finding(TOPIC, ERROR, f"{len(wrong)} differences, the first: {wrong[0]}", AGAIN, facts)
    return Finding(TOPIC, OK, f"tokenizer, prompts and uniforms are as recorded ({cases} cases)", facts=facts)


def _steps(cases: Sequence[Case], model: Diffutron, whole: str) -> Finding:
    """Return the finding on the steps of some recorded answers, as many as there is time for.

    Those of an exact case must be the same; others may differ by rounding, and `verify` judges them together.
    """
    found = [(case.exact, *wrong_start(case, model, SECONDS / len(cases))) for case in cases]
    wrong = [text for exact, texts, _ in found for text in texts if exact]
    rounded, taken = [text for _, texts, _ in found for text in texts], sum(steps for *_, steps in found)
    facts = {"answers": len(cases), "steps": taken, "differences": len(rounded)}
    if wrong:
        return Finding(TOPIC, ERROR, f"a recorded answer differs here: {wrong[0]}", f"all that differs: {whole}", facts)
    if rounded:
        text = f"some of {len(cases)} recorded answers differ here; rounding can be the cause"
        return Finding(TOPIC, NOTE, text, f"whether too many do: {whole}", facts)
    text = f"{taken} steps of {len(cases)} recorded answers are the same here; all cases: {whole}"
    return Finding(TOPIC, OK, text, facts=facts)


def _whole(subject: Subject) -> str:
    """Return the command that replays all cases."""
    return f"diffutron-ort verify{f' {subject.model}' if subject.model else ''} --variant {subject.running}"
