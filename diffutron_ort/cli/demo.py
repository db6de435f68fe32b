"""`diffutron-ort demo`: show in a browser how a model answers."""

import argparse
import webbrowser

from diffutron_ort.cli.flags import MODEL
from diffutron_ort.cli.loading import located
from diffutron_ort.cli.parser import Parser, filled, port
from diffutron_ort.cli.terminal import say
from diffutron_ort.demo.server import serve


def add_arguments(parser: Parser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", nargs="?", type=filled, help=MODEL)
    parser.add_argument(
        "--port", type=port, default=8765, help="port to listen on, at 127.0.0.1; 0 is any free one (default: 8765)"
    )
    parser.add_argument("--no-open", dest="browse", action="store_false", help="do not open a browser")
    parser.add_argument(
        "--libraries",
        metavar="DIR",
        type=filled,
        help="a node_modules folder with the page's libraries (default: npm downloads them)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until an interrupt."""
    with serve(located(arguments.model), arguments.port, arguments.libraries, say) as server:
        say(f"{server.address} (Ctrl-C to stop)")
        server.show(webbrowser.open if arguments.browse else None)
