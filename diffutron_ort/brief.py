"""How error messages show values and other errors: briefly, whatever they are and however long."""

from reprlib import Repr

MOST = 400  # characters of another library's words
_SHORT = Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 80, 80, 2


def brief(value: object) -> str:
    """Return what `repr` says of a value, shortened where it says more than about 80 characters."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return f"an {type(value).__name__} with too many digits to show"


def in_brief(error: BaseException) -> str:
    """Return what another library's error says, on one line and shortened: it may quote a file of any size."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= MOST else f"{said[: MOST - 100]} … {said[-95:]}"
