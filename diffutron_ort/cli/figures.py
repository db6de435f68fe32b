"""Figures with their standard errors, for people and for JSON."""

import math


def uncertain(value: float | None, error: float | None) -> str:
    """Return a figure with its standard error, if it has one."""
    return rounded(value) if error is None or not math.isfinite(error) else f"{rounded(value)} ± {rounded(error, 2)}"


def rounded(value: float | None, digits: int = 4) -> str:
    """Return a figure with as many digits as `digits` says, or all before the point; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if 10 ** min(3, digits) <= abs(value) < 1e12 else f"{value:.{digits}g}"


def finite(value: float | None) -> float | None:
    """Return a number that JSON has, or None."""
    return value if value is not None and math.isfinite(value) else None
