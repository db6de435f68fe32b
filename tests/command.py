"""The command line in a process of its own, on pipes and on a terminal."""

import os
import subprocess
import sys

QUESTION = "On iki artı beş kaç eder?"
COMMAND = [sys.executable, "-m", "diffutron_ort"]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def run(*arguments, stdin=b"", command=COMMAND, **options):
    """Run the command; its streams are bytes, but `stdin` can be a descriptor as well."""
    fed = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    usual = fed | {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, "env": BUFFERED}
    return subprocess.run([*command, *arguments], check=False, **usual | options)


def on_terminal(arguments, command=COMMAND, streams=("stdout", "stderr"), **environment):
    """Run the command with some of its streams on a pseudo-terminal; return the code, what that got, and the others."""
    import pty  # not everywhere

    master, slave = pty.openpty()
    where = {name: slave if name in streams else subprocess.PIPE for name in ("stdout", "stderr")}
    environment = BUFFERED | {"TERM": "xterm", "COLUMNS": "100"} | environment
    with subprocess.Popen([*command, *arguments], stdin=subprocess.DEVNULL, env=environment, **where) as process:
        os.close(slave)
        screen = b""
        while chunk := _read(master):
            screen += chunk
        others = {name: getattr(process, name).read().decode() for name in where if name not in streams}
    os.close(master)
    return process.returncode, screen.decode().replace("\r\n", "\n"), others


def _read(master):
    try:
        return os.read(master, 65536)
    except OSError:  # the other side has been closed
        return b""
