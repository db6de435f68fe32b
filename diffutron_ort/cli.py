"""The command line: argument parsing and printing, no logic."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from importlib import import_module
from itertools import chain
from types import ModuleType
from typing import Any
from unicodedata import category

from diffutron_ort._version import __version__
from diffutron_ort.bundle import load_bundle
from diffutron_ort.config import CHOICES, PRESETS, GenerationConfig
from diffutron_ort.denoise import Step
from diffutron_ort.errors import DiffutronError, InputError, OptionError
from diffutron_ort.model import FILL_IGNORES, Diffutron
from diffutron_ort.verify import Check, verify

BIDI_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder what a terminal shows
HELP = {
    "steps": "denoising steps",
    "max_new_tokens": "length of the canvas after the prompt",
    "block_length": "positions denoised together",
    "temperature": "0 takes the best token",
    "repetition_penalty": "1 is none",
    "remasking": "which predictions are committed first",
    "stochastic_transfer": "draw how many masks a step commits",
    "cfg_scale": "classifier-free guidance, 0 is none",
    "cfg_keep_tokens": "ids the unconditional pass still sees",
    "schedule": "how fast masks are committed",
    "seed": "of all random choices",
    "stop": "a string that ends the answer",
    "early_end": "stop as soon as the answer is settled",
    "suppress_tokens": "ids that are never chosen",
    "penalty_exempt": "ids that the penalty spares",
    "cache": "block: after a block's first step compute it alone, approximately",
    "refresh_steps": "of a cache: compute everything every so many steps, 0 is never",
    "refresh_entropy": "of a cache: compute everything after a commit of more nats, 0 is never",
    "commit": "how many tokens a step commits: the schedule's number, or all that are sure by a rule",
    "commit_factor": "of the rule factor: larger commits more",
    "commit_entropy": "of the rule entropy, in nats: larger commits more",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if stream is not None:  # it is where a caller closed it
            stream.reconfigure(encoding="utf-8", errors=errors)  # type: ignore[union-attr]
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        options = _parser(exporting=list(arguments[:1]) == ["export"]).parse_args(arguments)
        options.run(options)
        print(end="", flush=True)  # what cannot be written is found out here, not at the interpreter's end
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever was reading has gone
        return _drop_output()
    except (DiffutronError, OSError) as error:
        print(f"diffutron-ort: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else _drop_output()
    return 0


def _drop_output() -> int:
    """Send what is still to be written nowhere, so that the interpreter does not try again; return the exit code 1."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _parser(exporting: bool) -> argparse.ArgumentParser:
    """Return the parser; the exporter, which needs many packages, adds its arguments only when it is asked for."""
    parser = argparse.ArgumentParser(prog="diffutron-ort", description="Turkish text by masked diffusion")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_generate(commands.add_parser("generate", help="answer a prompt"))
    _add_fill(commands.add_parser("fill", help="put words where a text says <mask>"))
    _add_bench(commands.add_parser("bench", help="measure how fast a model runs here"))
    _add_verify(commands.add_parser("verify", help="check a bundle's files, and that it does here what it should"))
    _add_demo(
        commands.add_parser("demo", help="show in a browser how a model answers (npm fetches its libraries once)")
    )
    _add_rm(commands.add_parser("rm", help="remove what this program keeps in its cache"))
    export = commands.add_parser("export", help="turn a checkpoint into a bundle (needs the extra [export])")
    if exporting:
        _exporter().add_arguments(export)
        export.set_defaults(run=_exporter().run)
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", default="-", help="the question; - reads it from standard input")
    _add_model(parser)
    parser.add_argument("--preset", choices=tuple(PRESETS), help="options to start from (default: short)")
    parser.add_argument("--no-template", dest="template", action="store_false", help="continue the prompt as raw text")
    parser.add_argument("--show-steps", action="store_true", help="show the canvas as it denoises, on standard error")
    parser.add_argument("--svg", metavar="FILE", help="write the denoising as an animated picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    _add_options(parser, [field.name for field in fields(GenerationConfig)])
    parser.set_defaults(run=_generate)


def _add_fill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", default="-", help="a text with <mask>s; - reads it from standard input")
    _add_model(parser)
    _add_options(parser, [field.name for field in fields(GenerationConfig) if field.name not in FILL_IGNORES])
    parser.set_defaults(run=_fill)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, "model", nargs="?")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(run=_bench)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="a bundle's folder or a hub id (default: the embedded demonstration)")
    parser.add_argument("--revision", help="commit, tag or branch of a hub id")
    parser.add_argument(
        "--against",
        nargs=2,
        metavar=("torch", "SOURCE"),
        help="compare with the checkpoint that it was made from, too (needs the extra [export])",
    )
    parser.add_argument("--source-revision", metavar="SHA", help="of SOURCE, if it is a hub id")
    parser.add_argument("--adapter", metavar="DIR", help="the LoRA adapter that was merged")
    parser.set_defaults(run=_verify)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="a bundle's folder or a hub id (default: the embedded demonstration)")
    parser.add_argument("--port", type=int, default=8765, help="where to listen on 127.0.0.1; 0 is any (default: 8765)")
    parser.add_argument("--no-open", dest="browse", action="store_false", help="open no browser")
    parser.add_argument(
        "--libraries", metavar="DIR", help="a node_modules with the page's libraries (else npm fetches)"
    )
    parser.set_defaults(run=_demo)


def _add_rm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_rm)


def _add_model(parser: argparse.ArgumentParser, name: str = "--model", **how: Any) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(name, help="a bundle's folder or a hub id (default: the embedded demonstration)", **how)
    group.add_argument("--revision", help="commit, tag or branch of a hub id")
    group.add_argument("--variant", help="which of the bundle's graphs (default: fp32)")
    group.add_argument("--provider", action="append", metavar="NAME", help="cpu or cuda; may be given several times")
    group.add_argument("--threads", type=int, help="within an operator (default: as many as may be used)")
    group.add_argument("--no-spin", dest="spin", action="store_false", help="let idle threads sleep, not turn")


def _add_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add the fields of `GenerationConfig` as flags; one that is not given is left to the preset and the bundle."""
    group = parser.add_argument_group("options")
    defaults = GenerationConfig()
    for name in names:
        flag, default = "--" + name.replace("_", "-"), getattr(defaults, name)
        common: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": HELP[name]}
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif name == "stop":
            group.add_argument(flag, action="append", metavar="STRING", **common)
        elif isinstance(default, tuple):
            group.add_argument(flag, nargs="+", type=int, metavar="ID", **common)
        else:
            group.add_argument(flag, type=type(default), choices=CHOICES.get(name), **common)


def _generate(arguments: argparse.Namespace) -> None:
    prompt = _text_argument(arguments.prompt)
    options = {name: value for name, value in vars(arguments).items() if name in _OPTIONS}
    model = _load(arguments)
    config = model.config(arguments.preset, **options)
    begun = time.perf_counter()
    steps = model.stream(prompt, template=arguments.template, preset=arguments.preset, **options)
    if arguments.show_steps:
        from diffutron_ort.show import show

        steps = show(steps, model, sys.stderr)
    taken = list(steps)
    seconds = time.perf_counter() - begun
    if arguments.json:
        _print_json(model, config, taken, seconds)
    else:
        print(printable(taken[-1].text))
    if arguments.svg:
        from diffutron_ort.picture import write_svg

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
    print(printable(json.dumps(result, ensure_ascii=False)))


def _passes(steps: Sequence[Step]) -> dict[str, int]:
    """Return how many passes computed everything and how many a part, and what they computed and predicted in all."""
    full = sum(step.computed == len(step.ids) for step in steps)
    computed, asked = (sum(getattr(step, name) for step in steps) for name in ("computed", "asked"))
    return {"full": full, "cached": len(steps) - full, "computed": computed, "asked": asked}


def _fill(arguments: argparse.Namespace) -> None:
    text = _text_argument(arguments.text)
    options = {name: value for name, value in vars(arguments).items() if name in _OPTIONS}
    print(printable(_load(arguments).fill(text, **options)))


def _bench(arguments: argparse.Namespace) -> None:
    from diffutron_ort.bench import bench, table

    report = bench(_load(arguments), _loading(arguments))
    print(printable(json.dumps(report, ensure_ascii=False) if arguments.json else table(report)))


def _verify(arguments: argparse.Namespace) -> None:
    checks = [verify(arguments.model, arguments.revision), _against(arguments)]
    failed = 0
    for check in chain.from_iterable(checks):
        failed += bool(check.differences)
        mark = "FAILED" if check.differences else "ok"
        print(printable(f"{mark:<7} {check.name:<18} {check.total:>3}  {check.note}".rstrip()), flush=True)
        for difference in check.differences:
            print(f"  {printable(difference)}", file=sys.stderr)
    if failed:
        raise DiffutronError(f"{failed} of these checks failed; the lines above say where")


def _against(arguments: argparse.Namespace) -> Iterable[Check]:
    """Return the checks against the checkpoint, where they are asked for."""
    if arguments.against is None:
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
    import webbrowser

    from diffutron_ort.demo import serve

    def say(message: str) -> None:
        print(f"diffutron-ort: {message}", file=sys.stderr, flush=True)

    with serve(arguments.model, arguments.port, arguments.libraries, say) as server:
        say(f"{server.address} (Ctrl-C ends it)")
        server.show(webbrowser.open if arguments.browse else None)


def _rm(arguments: argparse.Namespace) -> None:
    from diffutron_ort import cache

    there = cache.contents()
    for path, size in there:
        print(printable(f"{size:>13,} bytes  {path}"), flush=True)
    if not there:
        print(f"diffutron-ort: nothing is kept in {cache.folder()}", file=sys.stderr)
    elif arguments.yes or _agrees("remove this? [y/N] "):
        cache.empty()


def _agrees(question: str) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise OptionError("nothing was removed, since there is nobody to ask: give --yes")
    print(f"diffutron-ort: {question}", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _exporter(module: str = "command") -> ModuleType:
    try:
        return import_module(f"diffutron_ort_export.{module}")
    except ImportError as error:
        raise DiffutronError(
            f"exporting needs more packages ({error}): pip install 'diffutron-ort[export]' "
            "--extra-index-url https://download.pytorch.org/whl/cpu"
        ) from error


def _load(arguments: argparse.Namespace) -> Diffutron:
    if arguments.model is None:
        print("diffutron-ort: no model given, so the embedded demonstration answers", file=sys.stderr)
    return Diffutron.from_pretrained(**_loading(arguments))


def _loading(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `from_pretrained`."""
    return {
        "model": arguments.model,
        "variant": arguments.variant,
        "providers": arguments.provider,
        "revision": arguments.revision,
        "threads": arguments.threads,
        "spin": arguments.spin,
    }


def _text_argument(text: str) -> str:
    """Return a text given as an argument, or what standard input holds where it is `-`, without its last newline."""
    if text != "-":
        return text
    if sys.stdin is None:
        raise InputError("standard input is closed: give the text as an argument")
    if sys.stdin.isatty():
        print("diffutron-ort: reading standard input, end it with Ctrl-D", file=sys.stderr)
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8: {error}") from error


def printable(text: str) -> str:
    """Return `text` for standard output: on a terminal, without the control characters that could steer it."""
    if sys.stdout is None or not sys.stdout.isatty():
        return text
    return "".join(c for c in text if c in "\n\t" or (category(c) != "Cc" and c not in BIDI_CONTROLS))


_OPTIONS = {field.name for field in fields(GenerationConfig)}

if __name__ == "__main__":
    sys.exit(main())
