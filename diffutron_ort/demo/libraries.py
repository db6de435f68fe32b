"""The page's JavaScript libraries: in a folder that the user names, the checkout, or the cache, which npm fills."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from diffutron_ort import user_cache as cache
from diffutron_ort.errors import DiffutronError
from diffutron_ort.signals import told_to_end

PACKAGES = ("onnxruntime-web", "@huggingface/tokenizers")
PURPOSE = "libraries"
REMEDY = "give a node_modules that has them with --libraries DIR"


def find_libraries(web: Path, given: str | Path | None = None, say: Callable[[str], object] = lambda _: None) -> Path:
    """Return the page's `node_modules`; fetch the libraries once if there is none.

    Args:
        web: The page's folder, with its package.json and package-lock.json.
        given: A node_modules to use instead.
        say: Called with a line about what is fetched, and where to.

    Raises:
        DiffutronError: `given` lacks them, or npm is missing or fails.
    """
    if given is not None:
        if missing := _missing(Path(given)):
            raise DiffutronError(f"--libraries {given} has no {' and no '.join(missing)}: {REMEDY}, or leave it out")
        return Path(given)
    if _matches(web / "node_modules", web):
        return web / "node_modules"
    kept = cache.folder() / PURPOSE / hashlib.sha256((web / "package-lock.json").read_bytes()).hexdigest()[:16]
    if _missing(kept / "node_modules"):
        with told_to_end():
            _fill(kept, web, say)
    return kept / "node_modules"


def _missing(modules: Path) -> list[str]:
    return [name for name in PACKAGES if not (modules / name / "dist").is_dir()]


def _matches(modules: Path, web: Path) -> bool:
    """Return whether a node_modules has the packages in the releases that the page's package.json names."""
    is_same = all(_release(modules / name) == release for name, release in _wanted(web).items())
    return is_same and not _missing(modules)


def _wanted(web: Path) -> dict[str, str]:
    named = json.loads((web / "package.json").read_text("utf-8"))["dependencies"]
    return {name: named[name] for name in PACKAGES}


def _release(package: Path) -> object:
    try:
        return json.loads((package / "package.json").read_text("utf-8"))["version"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _fill(kept: Path, web: Path, say: Callable[[str], object]) -> None:
    """Let npm fetch the libraries into a folder beside `kept`, and rename it when it is complete."""
    npm = shutil.which("npm")
    if npm is None:
        raise DiffutronError(f"npm, which fetches the page's libraries, is missing: install Node.js, or {REMEDY}")
    cache.make_folder(kept.parent)
    wanted = " and ".join(f"{name} {release}" for name, release in _wanted(web).items())
    say(f"npm fetches {wanted} into {kept}; `diffutron-ort rm` removes them")
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=kept.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(web / name, partial / name)
        _install(npm, partial)
        _name(partial, kept)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _install(npm: str, folder: Path) -> None:
    """Run npm in a folder with a package-lock.json, without running any code of the packages.

    Raises:
        DiffutronError: It fails.
    """
    command = [npm, "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--fetch-retries=1"]
    done = subprocess.run(  # noqa: S603 - nothing in it comes from outside
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    lines = (done.stderr + done.stdout).decode(errors="replace").splitlines()
    told = next((line for line in lines if line.startswith("npm") and len(line.split()) > 4), "it does not say why")
    if done.returncode or _missing(folder / "node_modules"):
        raise DiffutronError(f"npm could not fetch the page's libraries ({told}): try again online, or {REMEDY}")


def _name(partial: Path, kept: Path) -> None:
    """Rename a complete folder to `kept`, unless another process was quicker; replace an incomplete one."""
    if _missing(kept / "node_modules"):
        shutil.rmtree(kept, ignore_errors=True)
    try:
        partial.rename(kept)
    except OSError:
        if _missing(kept / "node_modules"):
            raise
