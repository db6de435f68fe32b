"""A template: text, or JSON, with named places such as `{{city}}`."""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from diffutron_ort.brief import brief, in_brief
from diffutron_ort.errors import InputError

PLACE = re.compile(r"\{\{ *([^\W\d][\w-]*) *\}\}")
STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
MOST_PLACES = 64
STAND_INS = ("null", " ")
"""What stands in a place while a template is parsed, outside of a string and inside one. It is an error within a number
or an escape sequence, where no value could stand.
"""


class Place(NamedTuple):
    """A place for a value.

    Attributes:
        name: Of its slot.
        before: The text between it and the place before, or the start of the template.
        is_quoted: Whether it stands inside a string of JSON.
    """

    name: str
    before: str
    is_quoted: bool


class Template(NamedTuple):
    """A template, taken apart.

    Attributes:
        places: In order, at least one.
        end: The text after the last.
        is_json: Whether the text is a JSON object once values stand in the places.
    """

    places: tuple[Place, ...]
    end: str
    is_json: bool

    @property
    def names(self) -> list[str]:
        """The names of the places, in order."""
        return [place.name for place in self.places]

    def filled(self, texts: Mapping[str, str]) -> str:
        """Return the text with `texts`, by name, in its places."""
        return "".join(place.before + texts[place.name] for place in self.places) + self.end


def parse(given: object, bare: frozenset[str] = frozenset()) -> Template:
    """Take a template apart.

    Args:
        given: Text; or an object that becomes JSON text, in whose values the places stand.
        bare: The names of slots whose values are no strings: in an object, a string that is such a place and nothing
            else loses its quotes.

    Raises:
        InputError: It is neither, has no place, has a name twice or a place in a key of JSON, or is an object that JSON
            cannot write.
    """
    text = given if isinstance(given, str) else _without_quotes(_written(given), bare)
    stretches = PLACE.split(text)  # text, name, text, name, ..., text
    names = stretches[1::2]
    if not names:
        raise InputError(f"template={brief(given)} has no place: write {{{{name}}}} where the model is to fill it in")
    if len(names) > MOST_PLACES:
        raise InputError(f"the template has {len(names)} places: at most {MOST_PLACES}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{_listed(twice)} stands twice in the template: give each place a name of its own")
    quoted = _quoted(text)
    stand_ins = iter(quoted)
    is_json = _is_object(PLACE.sub(lambda _: STAND_INS[next(stand_ins)], text))
    if is_json and (key := _key_with_place(text)):
        raise InputError(f"the template has a place in the key {brief(key)}: two keys could become one; fill values")
    places = (Place(*each) for each in zip(names, stretches[::2], [is_json and each for each in quoted], strict=False))
    return Template(tuple(places), stretches[-1], is_json)


def _written(given: object) -> str:
    """Return an object as JSON text."""
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise InputError(f"template={brief(given)}, of type {kind}: must be text, or an object of JSON (a dict)")
    try:
        return json.dumps(dict(given), ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"the template cannot be written as JSON: {in_brief(error)}") from error


def _without_quotes(text: str, bare: frozenset[str]) -> str:
    """Take the quotes off the strings of a JSON text that are one of the places `bare` and nothing else."""

    def written(string: re.Match[str]) -> str:
        place = PLACE.fullmatch(string[0], 1, len(string[0]) - 1)
        return place[0] if place and place[1] in bare else string[0]

    return STRING.sub(written, text)


def _key_with_place(text: str) -> str | None:
    """Return a key of a JSON text that has a place in it, if there is one."""
    strings = (string for string in STRING.finditer(text) if PLACE.search(string[0]))
    return next((string[0] for string in strings if text[string.end() :].lstrip().startswith(":")), None)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _quoted(text: str) -> list[bool]:
    """Return for each place whether it stands inside a string, should the text be JSON."""
    inside = {place.start() for string in STRING.finditer(text) for place in PLACE.finditer(text, *string.span())}
    return [place.start() in inside for place in PLACE.finditer(text)]


def _listed(names: list[str]) -> str:
    return ", ".join(map(brief, names))
