"""The command line: what each command takes, does and prints, no logic."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib import import_module
from itertools import chain
from types import ModuleType
from typing import TYPE_CHECKING, Any

from diffutron_ort._version import __version__
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.cli.flags import add_model, add_options, loading, options_of
from diffutron_ort.cli.reading import read_text
from diffutron_ort.cli.terminal import (
    DONE,
    FAILED,
    INTERRUPTED,
    WRONG_USAGE,
    Unwritable,
    guarded,
    program,
    say,
)
from diffutron_ort.cli.usage import Parser, filled, port
from diffutron_ort.cli.writing import check_writable
from diffutron_ort.config import PRESETS, GenerationConfig
from diffutron_ort.errors import DiffutronError, OptionError
from diffutron_ort.model import FILL_IGNORES, Diffutron
from diffutron_ort.sampler.sequence import Step

if TYPE_CHECKING:
    from diffutron_ort.checks.verify import Check

DEMONSTRATION = (
    "no model given, so the embedded demonstration answers; it knows thirteen kinds of exercises and nothing else. "
    "The real model: diffutron-ort export diffutron/DiffutronLM-0.3B-Instruct FOLDER"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    What was asked for goes to standard output, and everything else to standard error.
    """
    with guarded():
        try:
            try:
                return _run(sys.argv[1:] if arguments is None else list(arguments))
            finally:
                sys.stdout.flush()  # what cannot be written is found out here, not at the interpreter's end
        except KeyboardInterrupt:
            return INTERRUPTED
        except Unwritable as error:
            if not isinstance(error.__cause__, BrokenPipeError):  # whoever was reading has gone
                say(f"standard output: {error}")
            return FAILED


def _run(arguments: Sequence[str]) -> int:
    try:
        options = _parse(arguments)
        options.run(options)
    except OptionError as error:
        say(f"{error}; see {options.prog} --help")
        return WRONG_USAGE
    except Unwritable:
        raise
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        say(_in_words(error))
        return FAILED
    return DONE


def _in_words(error: Exception) -> str:
    """Return what to say of an error."""
    match error:
        case DiffutronError():
            return str(error)
        case OSError(filename=name, strerror=reason) if name and reason:
            return f"{name}: {reason}"
        case OSError():
            return str(error) or type(error).__name__
        case MemoryError():
            return "out of memory: take a smaller variant, such as int8, or a shorter text"
    return f"{type(error).__name__}: {error}; that should not be: python -X dev -m diffutron_ort shows where it is from"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a command; what the others take is left out, since the exporter's takes imports."""
    parser = Parser(prog="diffutron-ort", description="Turkish text by masked diffusion")
    parser.add_argument("--version", action="version", version=__version__)
    group = parser.add_subparsers(required=True, metavar="command")
    commands = {
        "generate": (_add_generate, "answer a prompt"),
        "fill": (_add_fill, "put words where a text says <mask>"),
        "bench": (_add_bench, "measure how fast a model runs here"),
        "verify": (_add_verify, "check a bundle's files, and that it does here what it should"),
        "demo": (_add_demo, "show in a browser how a model answers (npm fetches its libraries once)"),
        "rm": (_add_rm, "remove what this program keeps in its cache"),
        "export": (_add_export, "turn a checkpoint into a bundle (needs the extra [export])"),
    }
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, (add, purpose) in commands.items():
        command = group.add_parser(name, help=purpose)
        command.set_defaults(prog=command.prog)
        if name == wanted:
            add(command)
    if not arguments:
        parser.error(f"give a command: {', '.join(commands)}")
    return parser.parse_args(arguments)


def _add_generate(parser: Parser) -> None:
    parser.text = "prompt"
    help_ = "the question, in quotes, after -- if it begins with a dash; - reads it from standard input (default: -)"
    parser.add_argument("prompt", nargs="?", default="-", help=help_)
    add_model(parser)
    parser.add_argument("--preset", choices=tuple(PRESETS), help="options to start from (default: short)")
    parser.add_argument("--no-template", dest="template", action="store_false", help="continue the prompt as raw text")
    parser.add_argument("--show-steps", action="store_true", help="show the canvas as it denoises, on standard error")
    parser.add_argument("--svg", metavar="FILE", type=filled, help="write the denoising as an animated picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    add_options(parser)
    parser.set_defaults(run=_generate)


def _add_fill(parser: Parser) -> None:
    parser.text = "text"
    help_ = "a text with <mask>s, in quotes, after -- if it begins with a dash; - reads it from standard input"
    parser.add_argument("text", nargs="?", default="-", help=help_)
    add_model(parser)
    add_options(parser, without=FILL_IGNORES)
    parser.set_defaults(run=_fill)


def _add_bench(parser: Parser) -> None:
    add_model(parser, "model", nargs="?")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=_bench)


def _add_verify(parser: Parser) -> None:
    parser.add_argument(
        "model", nargs="?", type=filled, help="a bundle's folder or a hub id (default: the embedded demonstration)"
    )
    parser.add_argument("--revision", type=filled, help="commit, tag or branch of a hub id")
    parser.add_argument("--variant", type=filled, help="the only one to check (default: all that are there)")
    parser.add_argument(
        "--against",
        nargs=2,
        type=filled,
        metavar=("torch", "SOURCE"),
        help="compare with the checkpoint that it was made from, too (needs the extra [export])",
    )
    parser.add_argument("--source-revision", metavar="SHA", type=filled, help="of SOURCE, if it is a hub id")
    parser.add_argument("--adapter", metavar="DIR", type=filled, help="the LoRA adapter that was merged")
    parser.set_defaults(run=_verify)


def _add_demo(parser: Parser) -> None:
    parser.add_argument(
        "model", nargs="?", type=filled, help="a bundle's folder or a hub id (default: the embedded demonstration)"
    )
    parser.add_argument(
        "--port", type=port, default=8765, help="where to listen on 127.0.0.1; 0 is any (default: 8765)"
    )
    parser.add_argument("--no-open", dest="browse", action="store_false", help="open no browser")
    parser.add_argument(
        "--libraries", metavar="DIR", type=filled, help="a node_modules with the page's libraries (else npm fetches)"
    )
    parser.set_defaults(run=_demo)


def _add_rm(parser: Parser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_rm)


def _add_export(parser: Parser) -> None:
    _exporter().add_arguments(parser)
    parser.set_defaults(run=_export)


def _generate(arguments: argparse.Namespace) -> None:
    options = options_of(arguments)
    if arguments.svg:
        check_writable(arguments.svg)
    prompt = read_text(arguments.prompt, "prompt")
    model = _load(arguments, arguments.preset, **options)
    config = model.config(arguments.preset, **options)
    begun = time.perf_counter()
    steps = model.stream(prompt, template=arguments.template, preset=arguments.preset, **options)
    if arguments.show_steps:
        from diffutron_ort.cli.live import show

        steps = show(steps, model, sys.stderr)
    taken = list(steps)
    seconds = time.perf_counter() - begun
    if arguments.json:
        _print_json(model, config, taken, seconds)
    else:
        print(taken[-1].text, flush=True)  # before the picture, which may go to the same file
    if arguments.svg:
        from diffutron_ort.cli.svg import write_svg

        write_svg(arguments.svg, taken, model, prompt)


def _print_json(model: Diffutron, config: GenerationConfig, steps: Sequence[Step], seconds: float) -> None:
    last = steps[-1]
    result = {
        "text": last.text,
        "ids": last.ids[last.start :].tolist(),
        "steps": len(steps),
        "passes": _passes(steps),
        "masks_left": last.masks_left,
        "seconds": round(seconds, 4),
        "model": dict(model.bundle.source),
        "options": asdict(config),
    }
    print(_json(result), flush=True)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _passes(steps: Sequence[Step]) -> dict[str, int]:
    """Return how many passes computed everything and how many a part, and what they computed and predicted in all."""
    full = sum(step.is_full for step in steps)
    computed = sum(step.num_computed for step in steps)
    predicted = sum(step.num_predicted for step in steps)
    return {"full": full, "cached": len(steps) - full, "computed": computed, "predicted": predicted}


def _fill(arguments: argparse.Namespace) -> None:
    options = options_of(arguments)
    text = read_text(arguments.text, "text")
    print(_load(arguments, **options).fill(text, **options))


def _bench(arguments: argparse.Namespace) -> None:
    from diffutron_ort.checks.bench import bench, table

    report = bench(_load(arguments), loading(arguments))
    print(_json(report) if arguments.json else table(report))


def _verify(arguments: argparse.Namespace) -> None:
    from diffutron_ort.checks.verify import verify

    checks = [verify(arguments.model, arguments.revision, variant=arguments.variant), _against(arguments)]
    failed = 0
    for check in chain.from_iterable(checks):
        failed += bool(check.differences)
        mark = "FAILED" if check.differences else "ok"
        print(f"{mark:<7} {check.name:<18} {check.total:>3}  {check.note}".rstrip(), flush=True)
        for difference in check.differences:
            print(f"  {difference}", file=sys.stderr)
    if failed:
        raise DiffutronError(f"{failed} of these checks failed; the lines above say where")


def _against(arguments: argparse.Namespace) -> "Iterable[Check]":
    """Return the checks against the checkpoint, where they are asked for."""
    if arguments.against is None:
        for flag in ("source_revision", "adapter"):
            if getattr(arguments, flag) is not None:
                raise OptionError(f"--{flag.replace('_', '-')} says more of the SOURCE of --against: give that, too")
        return ()
    framework, source = arguments.against
    if framework != "torch":
        raise OptionError(f"--against {framework}: must be torch, which is all that there is to compare with")
    bundle = load_bundle(arguments.model, arguments.revision)
    checks: Iterable[Check] = _exporter("against").against_torch(
        bundle, source, revision=arguments.source_revision, adapter=arguments.adapter
    )
    return checks


def _demo(arguments: argparse.Namespace) -> None:
    import webbrowser  # it takes a while

    from diffutron_ort.demo.server import serve

    with serve(arguments.model, arguments.port, arguments.libraries, say) as server:
        say(f"{server.address} (Ctrl-C ends it)")
        server.show(webbrowser.open if arguments.browse else None)


def _rm(arguments: argparse.Namespace) -> None:
    from diffutron_ort import user_cache as cache

    there = cache.contents()
    for path, size in there:
        print(f"{size:>13,} bytes  {path}", flush=True)
    if not there:
        say(f"nothing is kept in {cache.folder()}")
    elif arguments.yes or _agrees("remove this? [y/N] "):
        cache.empty()


def _agrees(question: str) -> bool:
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        raise OptionError("nothing was removed, since there is nobody to ask: give --yes")
    print(f"diffutron-ort: {question}", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _export(arguments: argparse.Namespace) -> None:
    with redirect_stdout(sys.stderr):  # whatever its libraries have to say
        _exporter().run(arguments)


def _exporter(module: str = "command") -> ModuleType:
    try:
        return import_module(f"diffutron_ort_export.{module}")
    except ImportError as error:
        raise DiffutronError(
            f"exporting needs more packages ({error}): pip install 'diffutron-ort[export]' "
            "--extra-index-url https://download.pytorch.org/whl/cpu"
        ) from error


def _load(arguments: argparse.Namespace, preset: str | None = None, **options: Any) -> Diffutron:
    """Load a model that can take these options, and say which it is where none was given."""
    model = Diffutron.from_pretrained(**loading(arguments))
    model.config(preset, **options)
    if arguments.model is None:
        say(DEMONSTRATION)
    return model


if __name__ == "__main__":
    sys.exit(program(main))
