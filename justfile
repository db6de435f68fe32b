# The usual commands; `just` lists them.

python := ".venv/bin/python"

_list:
    @just --list

# Make a virtual environment with all tools
setup:
    python3 -m venv .venv
    .venv/bin/pip install -e ".[dev,docs]"

# Run tests: all of them, or those named
test *paths:
    {{python}} -m pytest {{paths}}

# Check style and format
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .

# Check types
types:
    {{python}} -m mypy

# Write the generated tables and build the site
docs:
    {{python}} -m docs.generate
    {{python}} -m mkdocs build --strict

# Try mutants of every file that others may have written
fuzz seconds="60":
    {{python}} -m tests.fuzz --seconds {{seconds}}

# Run everything that guards the project in fresh environments, or the stages named
ci *stages:
    .ci/run {{stages}}
