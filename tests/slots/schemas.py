"""Answer by random JSON Schemas, and check every result by another library.

python -m tests.slots.schemas --count 3000
"""

import argparse
import json
import random
from datetime import date, datetime, time
from time import monotonic

import jsonschema
import numpy as np

from diffutron_ort import Diffutron
from diffutron_ort.runtime.contract import Predictions
from diffutron_ort.sampler.sampling import CANDIDATES
from diffutron_ort.scoring.work import finished
from diffutron_ort.slots.schema import from_schema
from tests.passes import NEVER

NAMES = ("ad", "yaş", "{{x}}", 'a"b', "şehir adı", "😀", "a\\b", "")
VALUES = ("evet", "hayır", 'a"b', "{x}", "iki\nsatır", 0, 1, -2.5, True, False, None, "uzun bir seçenek")
PATTERNS = ("^[a-z]{2,5}$", "^[A-ZÇĞİÖŞÜ]{2}-?\\d{1,3}$", "^(elma|armut)( ve üzüm)?$", "^\\w+$", "^.{1,6}$")
NOTES = {"title": "Ad", "description": "Bir şey.", "default": 5, "examples": [1]}
FORMATS = jsonschema.FormatChecker(formats=())
for name, parse in (("date", date), ("time", time), ("date-time", datetime)):
    FORMATS.checks(name, ValueError)(lambda text, parse=parse: not isinstance(text, str) or parse.fromisoformat(text))


def string(rng):
    kind = rng.choice(("any", "length", "pattern", "format"))
    if kind == "pattern":
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if kind == "format":
        return {"type": "string", "format": rng.choice(("date", "time", "date-time"))}
    least = rng.randint(0, 4)
    ends = {"minLength": least, "maxLength": least + rng.randint(1, 9)} if kind == "length" else {}
    return {"type": "string", **{name: ends[name] for name in ends if rng.random() < 0.8}}


def number(rng, kind):
    """Return a schema of numbers, of a range that holds at least ten of them."""
    scale = 10 ** rng.randint(0, 6)
    places = 0 if kind == "integer" or scale > 1000 else rng.choice((0, 0, 1, 2))
    low = round(rng.uniform(-scale, scale), places) if places else rng.randint(-scale, scale)
    high = low + rng.choice((12, 200, scale + 12))
    low_name, high_name = rng.choice(("minimum", "exclusiveMinimum")), rng.choice(("maximum", "exclusiveMaximum"))
    ends = {low_name: low, high_name: round(high, places) if places else high}
    return {"type": kind, **{name: end for name, end in ends.items() if rng.random() < 0.6}}


def simple(rng):
    """Return a schema of one kind of values."""
    kind = rng.choice(("string", "integer", "number", "string", "boolean", "null", "enum", "const"))
    if kind == "string":
        return string(rng)
    if kind in ("integer", "number"):
        return number(rng, kind)
    if kind == "enum":
        return {"enum": rng.sample(VALUES, rng.randint(1, 4))}
    return {"const": rng.choice(VALUES)} if kind == "const" else {"type": kind}


def value(rng, definitions):
    """Return the schema of a property, as pydantic nests it: notes, references, null beside something else."""
    schema, how = simple(rng), rng.choice(("plain", "plain", "any", "any", "types", "all", "ref"))
    if how == "any":
        schema = {"anyOf": [schema, {"allOf": [simple(rng)]}, {"type": "null"}][rng.randint(0, 1) :]}
    elif how == "types" and isinstance(schema.get("type"), str):
        schema |= {"type": [*dict.fromkeys((schema["type"], "null"))]}
    elif how == "all":
        schema = {"allOf": [schema]}
    elif how == "ref":
        name = f"D{len(definitions)}"
        definitions[name] = schema
        schema = {"$ref": f"#/$defs/{name}"}
    return schema | {name: NOTES[name] for name in rng.sample(sorted(NOTES), rng.randint(0, 2))}


def random_schema(rng):
    """Return the schema of a flat object."""
    definitions = {}
    properties = {name: value(rng, definitions) for name in rng.sample(NAMES, rng.randint(1, 3))}
    required = rng.sample(sorted(properties), rng.randint(0, len(properties)))
    return {"$defs": definitions, "type": "object", "properties": properties, "required": required}


class Whims:
    """A model that finds other tokens likely in each pass."""

    batch_invariant = True

    def __init__(self, vocab, rng):
        self._raw, self._rng = 3 * rng.standard_normal((256, vocab), np.float32), rng
        self._order = np.argsort(-self._raw, axis=1)

    def __call__(self, batch):
        rows = self._rng.integers(len(self._raw), size=len(batch.rows))
        raw, ids = self._raw[rows], self._order[rows, :CANDIDATES]
        logits = raw.copy()
        if batch.suppress_ids.size:
            np.put_along_axis(logits, batch.suppress_ids[batch.rows // batch.input_ids.shape[1]], NEVER, axis=1)
            ids = np.argsort(-logits, axis=1)[:, :CANDIDATES]
        best = np.take_along_axis(logits, ids, axis=1)
        rest = np.exp(logits - best[:, :1]).sum(axis=1) - 1
        targets = np.take_along_axis(raw, batch.target_ids, axis=1)
        return Predictions(ids, best, rest, rest, rest, targets)


def answer_many(model, count, seed):
    """Answer by `count` schemas, and return the seconds that it took."""
    rng, begun = random.Random(seed), monotonic()
    forward = Whims(model.bundle.vocab_size, np.random.default_rng(seed))
    for number in range(count):
        schema = random_schema(rng)
        template, bounds = from_schema(schema)
        config = model.config(steps=rng.choice((1, 3)), temperature=rng.choice((0.0, 1.0)), seed=number)
        filling = model.templates.filling(template, bounds, rng.choice((None, "Kim?")), config)
        filled = finished(filling.work(forward))
        assert filled.passes <= filling.most_passes(batch_invariant=True), schema
        data = json.loads(filled.text)
        jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(data)
        assert list(data) == list(schema["properties"])
        assert all(0 <= probability <= 1 + 1e-9 for probability in filled.probabilities.values())
    return monotonic() - begun


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    seconds = answer_many(Diffutron.from_pretrained(), asked.count, asked.seed)
    print(f"{asked.count} answers in {seconds:.0f} s, all valid")


if __name__ == "__main__":
    main()
