"""A person at a terminal: what he types, and what he sees."""

import codecs
import os
import re
import select
import subprocess
import time
from pathlib import Path

from tests.command import COMMAND

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[=>()][0B]?|\x1b\][^\x07]*\x07|\x0f")
PATIENCE = 120  # seconds until a busy machine is taken for one that hangs
ENTER, ALT_ENTER, CTRL_C, CTRL_D, UP, TAB = "\r", "\x1b\r", "\x03", "\x04", "\x1b[A", "\t"


class Terminal:
    """A pseudo-terminal on which a command runs.

    Attributes:
        seen: All that it was sent so far, without escape sequences.
        raw: The same with them.
    """

    def __init__(self, *arguments, command=COMMAND, rows=24, columns=80, stderr=None, **environment):
        import fcntl  # not everywhere
        import pty
        import termios

        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (rows, columns))
        self.before = termios.tcgetattr(self.master)
        usual = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave if stderr is None else stderr,
            env=os.environ | usual | environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.raw, self._read = "", 0
        self._decoded = codecs.getincrementaldecoder("utf-8")("replace").decode

    @property
    def seen(self):
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def type(self, *texts):
        """Type texts, one after another."""
        for text in texts:
            os.write(self.master, text.encode())
            time.sleep(0.05)

    def expect(self, text):
        """Wait until a text is seen after what was expected before, and return what comes before it."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen[self._read :]:
            assert time.monotonic() < end, f"{text!r} is not in {self.seen[self._read :]!r}"
            assert self._more(end - time.monotonic()), f"ended, and {text!r} is not in {self.seen[self._read :]!r}"
        found = self.seen.index(text, self._read)
        before, self._read = self.seen[self._read : found], found + len(text)
        return before

    def expect_an_answer_to_begin(self):
        """Wait until lines are taken in without an echo, which no prompt does."""
        import termios

        end = time.monotonic() + PATIENCE
        while termios.tcgetattr(self.master)[3] & (termios.ICANON | termios.ECHO) != termios.ICANON:
            assert time.monotonic() < end, f"no answer has begun: {self.seen[-500:]!r}"
            assert self._more(0.02), f"ended: {self.seen[-500:]!r}"

    def ask(self, *texts):
        """Wait for the prompt, and type."""
        self.expect_prompt()
        self.type(*texts)

    def expect_prompt(self):
        """Wait for the prompt, and until the process sleeps: a signal just before that would not wake it."""
        self.expect("> ")
        end, stat = time.monotonic() + PATIENCE, Path(f"/proc/{self.process.pid}/stat")
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < end, f"it never waits: {self.seen[-500:]!r}"
            time.sleep(0.01)

    def end(self, number=None):
        """Send a signal, if one is given, wait until the process ends, and return its exit code."""
        if number is not None:
            self.process.send_signal(number)
        end = time.monotonic() + PATIENCE
        while self._more(end - time.monotonic()):
            assert time.monotonic() < end, f"has not ended: {self.seen[-500:]!r}"
        return self.process.wait(PATIENCE)

    def is_as_before(self):
        """Whether the terminal's settings are those that it had."""
        import termios

        return termios.tcgetattr(self.master) == self.before

    def _more(self, seconds):
        if not select.select([self.master], [], [], max(0, seconds))[0]:
            return True
        try:
            chunk = os.read(self.master, 65536)
        except OSError:  # the other side has been closed
            return False
        self.raw += self._decoded(chunk)
        return bool(chunk)
