"""Requests that the server's own /openapi.json describes, and those that it forbids, made by schemathesis."""

import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance, unsupported_method

from tests.serve.mending import mended
from tests.serve.running import Running

SECONDS = 330.0  # for an answer; a busy machine is no hang
AT_ONCE = 3  # processes that ask
NOT_CHECKED = [positive_data_acceptance, unsupported_method]
"""Texts can be too long for the model's context, and content other than JSON is refused before the method is."""

NAMES = (
    "accept",
    "authorization",
    "content-encoding",
    "content-type",
    "cookie",
    "expect",
    "host",
    "origin",
    "x",
    "x-request-id",
)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"), max_size=40)
HEADERS = st.none() | st.none() | st.none() | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)


def covered(server: Running, seed: int) -> list[str]:
    """Try the bounds and types of every field, and return what was wrong with the answers.

    One thread does so: in several at once, schemathesis fails by itself now and then.
    """
    excluded = ",".join(check.__name__ for check in NOT_CHECKED)
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "run",
        f"{server.url}/openapi.json",
        "--phases=coverage",
    ]
    command += [f"--seed={seed}", f"--exclude-checks={excluded}", "--continue-on-failure", "--no-color", "--workers=1"]
    command += [f"--request-timeout={SECONDS:g}"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    print("\n".join(line for line in done.stdout.splitlines() if " generated, " in line), "at bounds", flush=True)
    return [done.stdout[-6000:] + done.stderr[-2000:]] if done.returncode else []


def tried(server: Running, cases: int, seed: int) -> list[str]:
    """Try so many random requests of each operation that has something to choose, and return what was wrong."""
    document = f"{server.url}/openapi.json"
    operations = [found.ok() for found in schemathesis.openapi.from_url(document).get_all_operations()]
    every = [(one, mode) for one in operations if one.body for mode in GenerationMode]
    every += [(one, GenerationMode.POSITIVE) for one in operations if one.path_parameters]
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as pool:  # in threads, Python 3.11 fails at parsing
        done = [pool.submit(_tried, document, one.path, one.method, mode, cases // 2, seed) for one, mode in every]
        return [said for each in done for said in each.result()]


def _tried(document: str, path: str, method: str, mode: GenerationMode, cases: int, seed: int) -> list[str]:
    operation = schemathesis.openapi.from_url(document)[path][method]
    wrong: list[str] = []
    statuses: Counter[int] = Counter()

    @seeded(seed)
    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), HEADERS)
    def ask(case: Case, headers: dict[str, str] | None) -> None:
        if mode == GenerationMode.POSITIVE and isinstance(case.body, dict) and len(repr(case.body)) % 8:
            case.body = mended(case.body)  # but for one in eight
        encoded = {name: value.encode("latin-1") for name, value in (headers or {}).items()}
        excluded = [*NOT_CHECKED, *([negative_data_rejection] if headers else [])]  # which knows few statuses
        try:
            answer = case.call_and_validate(headers=encoded, timeout=SECONDS, excluded_checks=excluded)
            statuses[answer.status_code] += 1
        except (FailureGroup, requests.RequestException) as error:
            wrong.append(f"{method} {path}: {error}"[:3000])

    ask()
    print(f"{statuses.total():>6} {mode.value} of {path}: {dict(sorted(statuses.items()))}", flush=True)
    return wrong
