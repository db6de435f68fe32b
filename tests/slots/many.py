"""Fill random templates, and check every result by other means than the package's.

python -m tests.slots.many --count 1000
"""

import argparse
import json
import random
import re
import time
from datetime import date

from diffutron_ort import Diffutron
from diffutron_ort.slots.template import PLACE

LETTERS = r"[^\W\d_]"
VISIBLE = r"[^\x00-\x20\x7f-\xa0\u2028\u2029]"
CHECKS = {
    "text": rf"{VISIBLE}+( {VISIBLE}+)*",
    "word": rf"{VISIBLE}+",
    "letters": rf"{LETTERS}+",
    "words": rf"{LETTERS}+( {LETTERS}+)*",
    "digits": r"[0-9]+",
    "integer": r"0|-?[1-9][0-9]*",
    "number": r"-?(0|[1-9][0-9]*)(\.[0-9]+)?",
    "date": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "time": r"([01][0-9]|2[0-3]):[0-5][0-9]",
    "[A-ZÇĞİÖŞÜ]{2,3}-?[0-9]{1,4}": None,
    "(elma|armut|muz)( ve (kiraz|üzüm))?": None,
}
WORDS = (
    "Ankara",
    "şehir",
    "İzmir'de",
    "ığüşöç",
    '"alıntı"',
    "{süslü}",
    "a\\b",
    "😀👍🏽",
    "satır\nsonu",
    "\t",
    "{ {",
    "}}",
    "5,",
    ".",
)
OPTIONS = (
    "evet",
    "hayır",
    'a"b',
    "{x}",
    "{{y}}",
    "😀",
    "iki\nsatır",
    "Iğdır",
    "ÇANKIRI",
    "\\",
    " boş ",
    "uzun bir seçenek, noktalı.",
)
VALUES = (True, False, None, 3, -2.5, 0, "metin")
PROMPTS = (None, "Türkiye'nin başkenti neresidir?", [{"role": "user", "content": "on artı iki kaç eder?"}])


def bounds(rng, bare):
    """Return the bounds of a slot; `bare` if it stands in JSON without quotes."""
    if rng.random() < 0.3:
        return {"options": rng.sample(VALUES if bare else OPTIONS, rng.randint(1, 4))}
    pattern = rng.choice(("integer", "number") if bare else tuple(CHECKS))
    found = {"pattern": pattern}
    if pattern in ("date", "time"):
        return found
    least = rng.randint(1, 4) + 4 * (pattern.startswith("["))
    return found | {"least": rng.randint(1, least), "most": least + rng.choice((0, 0, 1, 3))} | characters(rng, pattern)


def characters(rng, pattern):
    if pattern not in ("text", "letters", "words") or rng.random() < 0.6:
        return {}
    return {"least_characters": rng.randint(0, 3), "most_characters": rng.randint(8, 20)}


def text_template(rng, names):
    parts = [rng.choice(WORDS) if rng.random() < 0.8 else "" for _ in range(len(names) + 1)]
    joint = [rng.choice(("", " ", "", "\n", ": ")) for _ in names]
    return parts[0] + "".join(
        f"{gap}{{{{{name}}}}}{part}" for name, gap, part in zip(names, joint, parts[1:], strict=True)
    )


def json_text(rng, slots, bare):
    """Return JSON text with the slots in its values, those of `bare` without quotes."""
    members = []
    for number, name in enumerate(slots):
        key = json.dumps(rng.choice(WORDS) + str(number), ensure_ascii=False)
        before = json.dumps(rng.choice(("", "", *WORDS)), ensure_ascii=False)[1:-1]
        gap, place = rng.choice(("", " ")), f"{{{{{name}}}}}"
        value = place if name in bare else f'"{before}{gap}{place}"'
        value = rng.choice((value, f"[{value}]", '{"q": ' + value + "}"))
        members.append(f"{key}:{gap}{value}")
    return "{" + rng.choice((", ", ",", ",\n  ")).join(members) + "}"


def json_object(rng, slots):
    """Return an object with the slots in its values."""
    return {f"{rng.choice(WORDS)}{name}": f"{{{{{name}}}}}" for name in slots} | {"sabit": [1, None, "{ }"]}


def case(rng):
    """Return a template, its slots, whether it is JSON, and a prompt."""
    names = rng.sample(("ad", "şehir", "yaş", "x1", "son_gün"), rng.randint(1, 4))
    kind = rng.choice(("text", "json", "object"))
    bare = {name for name in names if kind != "text" and rng.random() < 0.4}
    slots = {name: bounds(rng, name in bare) for name in names}
    if kind == "object":  # where values that are no text decide by themselves
        return json_object(rng, slots), slots, True, rng.choice(PROMPTS)
    made = text_template(rng, names) if kind == "text" else json_text(rng, slots, bare)
    return made, slots, kind == "json", rng.choice(PROMPTS)


def check(template, slots, is_json, filled):
    """Raise unless a result has the given text around the values, and each value keeps its bounds."""
    for name, asked in slots.items():
        check_value(filled.values[name], asked)
        assert 0 < filled.probabilities[name] <= 1 + 1e-9, (name, filled.probabilities)
    assert set(filled.values) == set(slots)
    if is_json:
        assert filled.data == json.loads(filled.text)
    if isinstance(template, str):
        given = PLACE.split(template)[::2]
        pattern = "(.*)".join(map(re.escape, given))
        assert re.fullmatch(pattern, filled.text, re.DOTALL), (template, filled.text)
    if isinstance(template, str) and not is_json:
        written = PLACE.sub(lambda place: filled.values[place[1]], template)
        assert written == filled.text, (written, filled.text)


def check_value(value, asked):
    if "options" in asked:
        texts = [option if isinstance(option, str) else json.dumps(option) for option in asked["options"]]
        assert value in texts, (value, texts)
        return
    pattern = asked["pattern"]
    assert re.fullmatch(CHECKS[pattern] or pattern, value), (value, asked)
    assert asked.get("least_characters", 0) <= len(value) <= asked.get("most_characters", 10**6), (value, asked)
    if pattern == "date":
        date.fromisoformat(value)
    if pattern == "digits":
        assert asked["least"] <= len(value) <= asked["most"], (value, asked)


def fill_many(model, count, seed=0):
    """Fill and check so many random templates; return how many of them are JSON."""
    rng, objects = random.Random(seed), 0
    for number in range(count):
        template, slots, is_json, prompt = case(rng)
        options = {"seed": number, "temperature": rng.choice((0, 0.7, 3.0)), "steps": rng.choice((1, 2, 64))}
        try:
            check(template, slots, is_json, model.fill(template, slots=slots, prompt=prompt, **options))
        except Exception as error:
            error.add_note(f"template {number}: {template!r}, {slots}, {prompt!r}, {options}")
            raise
        objects += is_json
    return objects


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begin = time.monotonic()
    objects = fill_many(Diffutron.from_pretrained(), asked.count, asked.seed)
    took = time.monotonic() - begin
    print(f"{asked.count} templates, {objects} of them JSON: all parse and keep their bounds ({took:.0f} s)")


if __name__ == "__main__":
    main()
