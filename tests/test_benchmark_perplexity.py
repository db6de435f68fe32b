"""What benchmarks/perplexity.py computes: prose of manual pages, differences of scores, and rows that are kept."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("the benchmarks are in a checkout, not in a wheel", allow_module_level=True)
sys.path.append(str(BENCHMARKS))

from likelihood import comparison, speed  # noqa: E402
from likelihood.manpages import prose  # noqa: E402
from perplexity import Rows, sentences  # noqa: E402

from diffutron_ort.perplexity.result import Result  # noqa: E402
from diffutron_ort.scoring.score import Score  # noqa: E402

PROSE = "Bu komut, belirtilen dosyanın bütün satırlarını sırayla standart çıktıya yazar."
OTHER = "Satırlar arasındaki boşluklar korunur, ancak satır sonundaki boşluklar silinir."
PAGE = f"""
.ig
 * {PROSE}
..
.SH "AÇIKLAMA"
\\fBBu\\fR komut, belirtilen \\fIdosyanın\\fR bütün satırlarını
sırayla standart \\f[CB]çıktıya\\fR yazar.
.sp
.TP 4
\\fB-a\\fR, \\fB--archive\\fR
{OTHER}
.sp
Kısa bir söz.
.sp
{PROSE}
"""


def result(*logprobs):
    values = np.array(logprobs)
    score = Score("pll", values.sum(), np.arange(len(values)), values, 8, False, 0, 0, None, len(values))
    return Result("a", score)


def test_the_prose_of_a_page_is_its_sentences_once_each():
    seen = set()
    assert prose(PAGE, seen) == f"{PROSE}\n{OTHER}"
    assert prose(PAGE, seen) == ""


def test_a_difference_is_over_the_tokens_that_both_can_write():
    one, other = [result(-1.0, -np.inf, -3.0), result(-2.0)], [result(-0.5, -9.0, -2.0), result(-2.0)]
    ratio = comparison.difference(one, other)
    assert ratio.value == pytest.approx(1.5 / 3)
    assert comparison.row(one, other)[:2] == ["2.0000 ± 0.0000", "+0.5000 ± 0.3333"]
    assert comparison.row(one, None)[1] == "–"
    assert comparison.row(one, None)[4] == "1"


def test_rows_are_made_once(tmp_path):
    made = []
    for _ in range(2):
        rows = Rows(tmp_path / "rows.json")
        assert rows.get("a", lambda: made.append(1) or ["ı"]) == ["ı"]
    assert made == [1]


def test_the_sentences_differ_and_do_not_change():
    assert len(set(sentences())) == len(sentences()) > 100


def test_a_pass_is_timed_beside_the_same_one_without_targets(model):
    clock = speed.Clock(model.forward)
    watched = type(model)(model.bundle, model.tokenizer, clock)
    watched.score("Salı", method="pll")
    assert len(clock.own) == len(clock.plain) == 1
    assert min(clock.own + clock.plain) > 0
