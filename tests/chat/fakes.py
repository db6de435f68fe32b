"""A screen that remembers, and lines that somebody types."""

from diffutron_ort.chat.session import Session


class Remembers:
    """A screen that keeps what it is shown."""

    def __init__(self):
        self.answers, self.errors, self.notes = [], [], []

    def shown(self, steps, model):
        return steps

    def answered(self, question, completion):
        self.answers.append(completion.text)

    def failed(self, question, error):
        self.errors.append(error)

    def note(self, text):
        self.notes.append(text)


def session(model, **how):
    """Return a session and the files that it writes, by name."""
    files = {}
    found = Session(lambda: model, Remembers(), files.__setitem__, **how)
    return found, files


def typed(*lines):
    """Return a function that returns lines, or raises those that are exceptions, and then EOFError."""
    left = iter([*lines, EOFError()])

    def read():
        line = next(left)
        if isinstance(line, str):
            return line
        raise line

    return read
