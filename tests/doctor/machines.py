"""Machines and installations that are broken in one way."""

import json
import os
import sys

from tests.command import run

ORT = """
__version__ = "1.32.0"
{more}
"""


def stub(folder, name, source):
    """Write a module that shadows an installed one, and return the folder for PYTHONPATH."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(source, "utf-8")
    return folder


def distribution(folder, name, version="1.32.0"):
    """Write what pip leaves of an installed package: its metadata."""
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def doctor(*arguments, path=None, **environment):
    """Run `diffutron-ort doctor --json` in a process of its own; return its exit code, findings by topic, and errors.

    `path` comes first on its PYTHONPATH.
    """
    paths = os.pathsep.join(map(str, filter(None, [path, os.environ.get("PYTHONPATH")])))
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = run("doctor", "--json", *arguments, env=variables | {"PYTHONPATH": paths} | environment)
    assert done.stdout, done.stderr.decode()
    found = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["topic"], []).append(finding)
    return done.returncode, found, done.stderr.decode()


def errors(found):
    """Return the texts and remedies of all errors."""
    return [
        f"{one['text']} → {one['remedy']}"
        for findings in found.values()
        for one in findings
        if one["status"] == "error"
    ]


def without(monkeypatch, *names):
    """Make modules look as if they were not installed."""
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
