"""What pyproject.toml cannot say: nano's folder holds data, not modules; and the same files make the same archives."""

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

EPOCH = os.environ.setdefault("SOURCE_DATE_EPOCH", "1767225600")  # the time of every file in both archives


class BuildPy(build_py):
    """Leave the training recipe in `models/nano` out of the wheel, which carries that folder's bundle alone."""

    def find_package_modules(self, package, package_dir):  # noqa: D102
        return [] if package == "diffutron_ort.nano" else super().find_package_modules(package, package_dir)


def mode(found: int) -> int:
    """Return a file's mode, whatever the umask of whoever checked it out."""
    return 0o755 if found & 0o100 else 0o644


class BdistWheel(bdist_wheel):
    """Write a wheel without the umask."""

    def write_wheelfile(self, *args, **kwargs):  # noqa: D102
        super().write_wheelfile(*args, **kwargs)  # the last file to be written
        for path in Path(self.bdist_dir).rglob("*"):
            path.chmod(mode(path.stat().st_mode))


class Sdist(sdist):
    """Write an archive without times, owners and the umask."""

    def make_archive(self, base_name, format, *_args, base_dir, **_kwargs):  # noqa: A002, D102
        assert format == "gztar", "the one that PEP 625 allows"
        self.mkpath(self.dist_dir)
        with (
            Path(f"{base_name}.tar.gz").open("wb") as file,
            gzip.GzipFile("", "wb", mtime=int(EPOCH), fileobj=file) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=self.plain)
        return file.name

    def plain(self, entry):  # noqa: D102
        return entry.replace(uid=0, gid=0, uname="", gname="", mtime=int(EPOCH), mode=mode(entry.mode), deep=False)


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel, "sdist": Sdist})
