"""The one thing pyproject.toml cannot say: the embedded model's folder holds data for the wheel, not modules."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """Leave the training recipe in `models/nano` out of the wheel, which carries that folder's bundle alone."""

    def find_package_modules(self, package, package_dir):  # noqa: D102
        return [] if package == "diffutron_ort.nano" else super().find_package_modules(package, package_dir)


setup(cmdclass={"build_py": BuildPy})
