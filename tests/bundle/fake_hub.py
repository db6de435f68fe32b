"""A fake of huggingface_hub, with one repository whose commit can change."""

import fnmatch
import sys
from types import SimpleNamespace

COMMIT = "0" * 40


class Hub:
    """A repository on the Hub, and its local cache, in which files are links into a folder of blobs.

    Attributes:
        commit: The current one of the branch `main` and of every tag.
        asked: The ids and revisions that were asked for.
        fetched: The files that were downloaded.
    """

    def __init__(self, repository, cache):
        self.repository, self.cache, self.commit = repository, cache, COMMIT
        self.asked, self.fetched = [], []

    @property
    def snapshot(self):
        return self.cache / "snapshots" / self.commit

    def snapshot_download(self, hub_id, *, revision, allow_patterns, tqdm_class=None):
        self.asked.append((hub_id, revision))
        for path in sorted(self.repository.rglob("*.*")):
            name = path.relative_to(self.repository).as_posix()
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                self.fetch(name)
        self.snapshot.mkdir(parents=True, exist_ok=True)
        return str(self.snapshot)

    def fetch(self, name):
        blob, link = self.cache / "blobs" / f"{self.commit}-{name.replace('/', '-')}", self.snapshot / name
        if link.exists():
            return
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes((self.repository / name).read_bytes())
        link.symlink_to(blob)
        self.fetched.append(name)

    def blob(self, name):
        return (self.snapshot / name).resolve()


def install(snapshot_download, monkeypatch):
    """Put a function in the place of the library's."""
    bars = {name: lambda: None for name in ("disable_progress_bars", "enable_progress_bars")}
    bars |= {"are_progress_bars_disabled": lambda: True, "tqdm": object}
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.setitem(sys.modules, "huggingface_hub.utils.tqdm", SimpleNamespace(**bars))
