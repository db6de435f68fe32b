"""Shorten values and other libraries' errors for use in our error messages."""

from reprlib import Repr

MOST = 400  # characters of another library's message
_SHORT = Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 80, 80, 2


def brief(value: object) -> str:
    """Return `repr(value)` on one line, shortened to about 80 characters."""
    try:
        return _SHORT.repr(value).replace("\n", " ")
    except ValueError:  # Python refuses to convert an integer of several thousand digits
        return f"an {type(value).__name__} with too many digits to show"


def in_brief(error: BaseException) -> str:
    """Return another library's error message on one line, shortened: it may quote a file of any size."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST else f"{text[: MOST - 100]} … {text[-95:]}"
