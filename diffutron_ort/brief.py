"""How error messages show a value: briefly, whatever it is and however long."""

from reprlib import Repr

_SHORT = Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 80, 80, 2


def brief(value: object) -> str:
    """Return what `repr` says of a value, shortened where it says more than about 80 characters."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return f"an {type(value).__name__} with too many digits to show"
