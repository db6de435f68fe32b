"""Where an export writes: a bundle appears whole or not at all, and what is finished is never lost."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.bundle.unfinished import UNFINISHED, opened_unfinished
from diffutron_ort.errors import BundleError, DiffutronError, OptionError
from diffutron_ort_export import staging
from diffutron_ort_export.staging import Stage, find_place, staged, write_json

NANO = load_bundle()
FILES = sorted([MANIFEST, *NANO.files])
TAKEN = "exists already; give a path that is free, or an empty directory"


def fill(stage: Stage) -> None:
    """Do what the pipeline does, with the files of a bundle that is there."""
    for name in NANO.files:
        (stage.folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(NANO.folder / name, stage.folder / name)
    manifest = json.loads((NANO.folder / MANIFEST).read_text())
    write_json(stage.folder / MANIFEST, manifest | {"format": UNFINISHED})
    with opened_unfinished(stage.folder):
        load_bundle(stage.folder)
    write_json(stage.manifest, manifest)


def write(out: str | Path, then: Callable[[], object] = lambda: None) -> Stage:
    """Write a bundle as an export does; `then` is what happens when all is written."""
    with staged(out) as stage:
        fill(stage)
        then()
    return stage


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def loads(folder: Path) -> bool:
    try:
        load_bundle(folder)
    except BundleError:
        return False
    return True


def anything_loads(folder: Path) -> list[Path]:
    return [path for path in (folder, *folder.rglob("*")) if path.is_dir() and loads(path)]


# Places


def test_beside_a_place_that_is_free(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as stage:
        assert [path.name for path in tmp_path.iterdir()] == [stage.path.name]
        fill(stage)
        assert not (tmp_path / "out").exists()
        assert anything_loads(tmp_path) == []
    assert tree(tmp_path) == [f"out/{name}" for name in FILES]
    assert loads(tmp_path / "out")


@pytest.mark.parametrize(
    "out", [".", "./", "x/..", "x/../", "../here", "../here/", "../link", "../link/", "//", "x/../."]
)
def test_inside_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here)
    before = here.stat().st_ino
    write(str(here) + out if out == "//" else out)
    assert (here.stat().st_ino, Path.cwd()) == (before, here)
    assert tree(here) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "link"]
    assert loads(Path())


def test_a_relative_place_stays_where_it_was_when_the_current_folder_changes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with staged("a/b/../out") as stage:
        os.chdir("elsewhere")
        fill(stage)
    assert loads(tmp_path / "a" / "out")
    assert not any((tmp_path / "elsewhere").iterdir())


@contextlib.contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """Mount something, or skip the test where that is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        if os.geteuid() == 0 and "CI" in os.environ and "permission" not in done.stderr:
            pytest.fail(done.stderr)
        pytest.skip(f"mounting is not permitted here: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="needs mount")
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "with lost+found"])
def test_a_mount_point(tmp_path: Path, kind: str) -> None:
    out, volume = tmp_path / "out", tmp_path / "volume"
    out.mkdir()
    volume.mkdir()
    with mounted(*(("--bind", volume, out) if kind == "bind" else ("-t", "tmpfs", "tmpfs", out))):
        if kind == "with lost+found":
            (out / "lost+found").mkdir()
        write(out)
        assert tree(out) == FILES
        assert loads(out)
        with pytest.raises(OptionError, match=TAKEN):
            write(out)
        assert tree(out) == FILES


@pytest.mark.skipif(not shutil.which("mount"), reason="needs mount")
def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir()
    with mounted("-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path / "ro"):
        for out in (tmp_path / "ro", tmp_path / "ro" / "a" / "out"):
            with pytest.raises(OptionError, match="cannot be written: Read-only file system"), staged(out):
                pytest.fail("the work began")


@pytest.mark.skipif(not shutil.which("mount"), reason="needs mount")
def test_a_full_disk(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", out):
        with (
            pytest.raises(DiffutronError, match="out cannot be written: .*No space left on device.*make room"),
            staged(out) as stage,
            stage.writing(),
        ):
            (stage.folder / "weights").write_bytes(bytes(10**6))
        assert list(out.iterdir()) == []


def test_what_the_disk_refuses_is_not_mistaken_for_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder"), staged(tmp_path / "out") as stage, stage.writing():
        load_bundle(tmp_path / "nothing")  # a BundleFileError, which is an OSError, too
    assert list(tmp_path.iterdir()) == []


# Places where nothing can be written: found out before the work


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", TAKEN),
        ("file/", TAKEN),
        ("full", TAKEN),
        ("dangling", TAKEN),
        ("dangling/", TAKEN),
        ("loop", TAKEN),
        ("file/out", "cannot be written: Not a directory; choose another path"),
        ("loop/out", "cannot be written: Too many levels of symbolic links"),
        ("n" * 300, "cannot be written: File name too long"),
        ("n" * 250, "cannot be written: File name too long"),  # the folder beside it has a longer name
        ("a/" + "n" * 300, "cannot be written: File name too long"),
        ("nul\0", "cannot be written"),
    ],
)
def test_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full", "mine").write_text("mine")
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    with pytest.raises(OptionError, match=message), staged(out):
        pytest.fail("the work began")
    assert sorted(map(str, Path().iterdir())) == ["dangling", "file", "full", "loop"]
    assert (Path("file").read_text(), Path("full", "mine").read_text()) == ("mine", "mine")


@pytest.mark.parametrize("out", ["closed/out", "closed", "closed/a/out"])
def test_a_folder_that_cannot_be_written(out: str) -> None:
    program = (
        "import os, sys; from diffutron_ort_export.staging import staged\n"
        "if os.geteuid() == 0: os.seteuid(65534)  # root may write anywhere\n"
        "try:\n    with staged(sys.argv[1]): print('the work began')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "closed").mkdir(mode=0o555)
        command = [sys.executable, "-c", program, Path(folder, out)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("OptionError")
    assert "cannot be written: Permission denied; choose another path" in said


def test_the_current_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(OptionError, match="cannot be written: No such file"):
        write("out")


# What fails on the way


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), RuntimeError("it broke")])
@pytest.mark.parametrize("out", ["out", "above/out", "there"])
def test_a_failure_leaves_nothing(tmp_path: Path, out: str, error: BaseException) -> None:
    (tmp_path / "there").mkdir()

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        write(tmp_path / out, fail)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def kept(error: DiffutronError) -> Path:
    """Return where an error says that the finished bundle is."""
    return Path(str(error).split("the finished bundle is ")[1])


def put_folder(out: Path) -> None:
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text("mine")


def put_file(out: Path) -> None:
    out.write_text("mine")


def put_link(out: Path) -> None:
    out.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("there", "put"), [(False, put_folder), (False, put_file), (False, put_link), (True, put_folder)]
)
def test_a_place_that_is_taken_meanwhile(tmp_path: Path, there: bool, put: Callable[[Path], None]) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    with pytest.raises(DiffutronError, match="out was taken while this export ran; the finished") as raised:
        write(out, lambda: put(out))
    assert out.is_symlink() or (out / "config.json" if out.is_dir() else out).read_text() == "mine"
    assert tree(kept(raised.value)) == FILES
    assert loads(kept(raised.value))
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("there", [False, True])
def test_of_twins_the_first_to_finish_wins_and_the_other_is_kept(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    won = {}

    def win() -> None:
        write(out)
        assert loads(out)
        won.update({out / name: (out / name).stat().st_ino for name in FILES})

    with pytest.raises(DiffutronError, match="out was taken while this export ran; the finished") as raised:
        write(out, win)
    assert {path: path.stat().st_ino for path in won} == won
    assert len(won) == len(FILES)
    assert loads(out)
    assert loads(kept(raised.value))
    assert len(anything_loads(tmp_path)) == 2


@pytest.mark.parametrize("there", [False, True])
def test_the_last_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """As where a place became a mount point, or its disk is full or read-only by now."""
    out = tmp_path / "out"
    if there:
        out.mkdir()
    rename = Path.rename
    last = MANIFEST if there else "out"

    def refuse(path: Path, target: Path) -> Path:
        if target.name == last and target.parent in (tmp_path, out):
            raise OSError(16, "Device or resource busy")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(DiffutronError, match="out cannot be written: Device or resource busy; the finished") as raised:
        write(out)
    assert loads(kept(raised.value))
    assert [tree(out)] == ([sorted(f"{kept(raised.value).name}/{name}" for name in FILES)] if there else [[]])


@pytest.mark.parametrize("there", [False, True])
def test_no_rename_works_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    with pytest.raises(DiffutronError, match="cannot be written: Read-only file system; the finished") as raised:
        write(out, lambda: monkeypatch.setattr(Path, "rename", refuse))
    monkeypatch.undo()
    [folder] = [path for path in anything_loads(tmp_path) if f"the finished bundle is in {path} " in str(raised.value)]
    find_place(out)  # which removes what was left behind
    assert loads(folder)


# Killed exports

KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from tests.export import test_staging
from diffutron_ort_export import staging
{prepare}
test_staging.write(sys.argv[1])
"""


def start(out: Path, prepare: str = "") -> subprocess.Popen:
    program = KILLED.format(path=[path for path in sys.path if path], prepare=prepare)
    return subprocess.Popen([sys.executable, "-c", program, out])


def stages(out: Path) -> list[Path]:
    """Return the stages of exports to a path, without a look into them, where all may be renamed meanwhile."""
    return [*out.parent.glob(".*.partial"), *out.glob(".*.partial")]


def kill_at(moment: str) -> str:
    """Return a program that kills itself where a function of `staging` begins."""
    return f"staging.{moment} = lambda *given: os.kill(os.getpid(), signal.SIGKILL)"


BEFORE = {
    "nothing written": "test_staging.fill = lambda stage: os.kill(os.getpid(), signal.SIGKILL)",
    "all written": kill_at("sync_all"),
    "flushed": kill_at("publish"),
}
MOVING = {
    "first move": """
rename = Path.rename
def once(path, target):
    rename(path, target)
    if path.name == "onnx":
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = once
""",
    "manifest alone missing": """
rename = Path.rename
def all_but(path, target):
    if path.name == "manifest":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(path, target)
Path.rename = all_but
""",
}
MOMENTS = BEFORE | MOVING


@pytest.mark.parametrize(
    ("there", "moment"),
    [*((there, moment) for there in (False, True) for moment in BEFORE), *((True, moment) for moment in MOVING)],
)
def test_killed_at_a_moment(tmp_path: Path, there: bool, moment: str) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    assert start(out, MOMENTS[moment]).wait() == -signal.SIGKILL
    assert list(tmp_path.rglob("*.partial"))
    assert anything_loads(tmp_path) == []
    write(out)
    assert tree(tmp_path) == [f"out/{name}" for name in FILES]
    assert loads(out)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    for number in range(10):
        out, there = tmp_path / str(number) / "out", number % 2
        (out if there else out.parent).mkdir(parents=True)
        process = start(out)
        while process.poll() is None and not stages(out):
            time.sleep(0.001)
        time.sleep(number * 0.01)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            whole = anything_loads(out.parent)
            about_to_be_renamed = [path.name for path in whole] == ["bundle"]  # once it says that it is finished
            assert whole in ([], [out]) or about_to_be_renamed
            assert there or loads(out) or not out.exists()
        if not loads(out):
            write(out)
        assert loads(out)
        assert tree(out) == FILES or process.returncode


def test_what_is_of_others_is_not_taken_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert start(out, MOMENTS["manifest alone missing"]).wait() == -signal.SIGKILL
    (out / "config.json").write_text("mine")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=TAKEN):
        write(out)
    assert tree(out) == ["config.json", "notes.txt"]
    assert (out / "config.json").read_text() == "mine"


def test_a_bundle_that_is_whole_stays_though_its_export_was_killed_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert start(out, kill_at("remove")).wait() == -signal.SIGKILL
    assert loads(out)
    with pytest.raises(OptionError, match=TAKEN):
        write(out)
    assert loads(out)
    assert tree(out) == FILES


def test_a_living_export_and_other_places_are_left_alone(tmp_path: Path) -> None:
    for name in ("out.2", "2"):
        assert start(tmp_path / name, MOMENTS["all written"]).wait() == -signal.SIGKILL
    (tmp_path / ".out.0123abcd.partial").mkdir()  # without a lock nobody knows whether it lives
    others = {path.name for path in tmp_path.iterdir()}
    assert len(others) == 3
    with staged(tmp_path / "out") as living:
        find_place(tmp_path / "out")
        assert others <= {path.name for path in tmp_path.iterdir()}
        fill(living)
    assert others <= {path.name for path in tmp_path.iterdir()}


def test_without_locks_what_was_left_behind_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(staging.fcntl, "flock", refuse)
    with staged(tmp_path / "out") as living:
        write(tmp_path / "out")
        assert living.folder.is_dir()
        (tmp_path / "out").rename(tmp_path / "first")
        fill(living)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "out"]


def test_a_link_that_looks_like_a_stage_is_not_followed(tmp_path: Path) -> None:
    assert start(tmp_path / "other", MOMENTS["all written"]).wait() == -signal.SIGKILL
    [other] = tmp_path.iterdir()
    (tmp_path / ".out.0123abcd.partial").symlink_to(other)
    write(tmp_path / "out")
    assert (other / "bundle" / "config.json").exists()


def test_an_unfinished_bundle_is_refused_to_others(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as stage:
        fill(stage)
        with pytest.raises(BundleError, match="has format 'unfinished'.*export the model again"):
            load_bundle(stage.folder)
        with opened_unfinished(tmp_path), pytest.raises(BundleError, match="unfinished"):
            load_bundle(stage.folder)


def test_a_file_is_replaced_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with path.open() as before:
        write_json(path, {"ğ": 2})
        assert json.load(before) == {"a": 1}
    assert path.read_text("utf-8") == '{\n  "ğ": 2\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
