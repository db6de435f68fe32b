"""Checkpoints that are exported into the user's cache: once, whole or not at all, and found ever after.

The exporter is a fake, which writes nano's files the way that the real one writes; tests/export/test_one_command.py
runs the real one.
"""

import json
import os
import resource
import shutil
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from diffutron_ort import Diffutron, user_cache
from diffutron_ort.bundle.exported import EXPORTED, exports
from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.bundle.manifest import MANIFEST
from diffutron_ort.cli.main import main
from diffutron_ort.errors import BundleFileError, CheckpointError, DiffutronError, DiffutronWarning, OptionError
from tests.bundle.fake_hub import COMMIT, Hub, install
from tests.command import QUESTION
from tests.conftest import GOLDEN

pytestmark = [
    pytest.mark.exporter,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and limits the size of files"),
]
LATER = "1" * 40


def write(request, progress):
    """Write the bundle of a request with nano's files, as the exporter's `write` does."""
    from diffutron_ort_export.staging import staged, write_json

    nano = load_bundle()
    with staged(request.out) as stage, stage.writing():
        progress("reading", 0.0)
        print("a library prints this")
        manifest = json.loads((nano.folder / MANIFEST).read_text("utf-8"))
        for name in nano.needed(request.variants):
            (stage.folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(nano.folder / name, stage.folder / name)
        progress(f"finishing {request.out}", 0.9)
        for name in nano.variants.keys() - set(request.variants):
            del manifest["variants"][name]
        kept = {name: file for name, file in manifest["files"].items() if (stage.folder / name).exists()}
        source = {"name": request.source, "revision": request.revision}
        write_json(stage.manifest, manifest | {"files": kept, "source": source})


@dataclass
class Exporter:
    """A fake of the exporter.

    Attributes:
        requests: What it was asked for.
        before: What happens before it writes.
    """

    requests: list = field(default_factory=list)
    before: list = field(default_factory=list)

    def write(self, request, progress):
        self.requests.append(request)
        for act in self.before:
            act()
        write(request, progress)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    import diffutron_ort_export.pipeline  # noqa: F401 - before the fake of huggingface_hub, and before any fork

    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def exporter(cache, monkeypatch):
    exporter = Exporter()
    monkeypatch.setattr("diffutron_ort_export.command.write", exporter.write)
    return exporter


@pytest.fixture
def checkpoint(tmp_path):
    """The folder of a checkpoint, with two files that are no part of it."""
    folder = Path(shutil.copytree(GOLDEN / "tiny" / "checkpoint", tmp_path / "checkpoint"))
    for name in ("README.md", "pytorch_model.bin"):
        (folder / name).write_bytes(b"0")
    for path in folder.iterdir():
        os.utime(path, (0, time.time() - 100))
    return folder


@pytest.fixture
def hub(checkpoint, tmp_path, monkeypatch):
    hub = Hub(checkpoint, tmp_path / "models--owner--name")
    install(hub.snapshot_download, monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return hub


def take_offline(monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError("no route to host")

    install(snapshot_download, monkeypatch)


def left(cache):
    """Return the names of what is left of exports."""
    return sorted(path.name for path in (cache / EXPORTED).glob("[!.]*"))


# Once, and where


def test_a_folder_is_exported_once(exporter, checkpoint):
    stages = []
    model = Diffutron.from_pretrained(checkpoint, progress=lambda *said: stages.append(said))
    assert model.generate(QUESTION) == "on yedi"
    assert stages == [("reading", 0.0), (f"finishing {checkpoint}", 0.9)]
    assert Diffutron.from_pretrained(str(checkpoint)).generate(QUESTION) == "on yedi"
    [request] = exporter.requests
    assert (request.source, request.revision, request.variants) == (str(checkpoint), None, ("int8",))


def test_only_the_files_of_a_checkpoint_are_downloaded_and_of_one_commit(exporter, hub):
    bundle = load_bundle("owner/name", "v1")
    [request] = exporter.requests
    assert (request.source, request.revision, request.variants) == ("owner/name", COMMIT, ("int8",))
    assert set(hub.fetched) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert hub.asked == [("owner/name", "v1"), ("owner/name", COMMIT)]
    assert bundle.source["revision"] == COMMIT
    assert load_bundle("owner/name", "v1") == bundle
    assert len(exporter.requests) == 1


def test_another_variant_is_exported_beside(exporter, checkpoint):
    folders = [load_bundle(checkpoint, variant=name).folder for name in (None, "fp32", "int8", "fp32")]
    assert [request.variants for request in exporter.requests] == [("int8",), ("fp32",)]
    assert folders[0] == folders[2] != folders[1] == folders[3]
    assert [export.variant for export in exports()] == ["fp32", "int8"]


def test_a_new_commit_is_exported_and_the_old_one_stays(exporter, hub):
    old = load_bundle("owner/name")
    hub.commit = LATER
    assert load_bundle("owner/name").source["revision"] == LATER
    hub.asked.clear()
    assert load_bundle("owner/name", COMMIT) == old
    assert hub.asked == []  # a commit does not change
    assert [request.revision for request in exporter.requests] == [COMMIT, LATER]


def test_what_is_in_the_cache_is_real_files(exporter, hub):
    folder = load_bundle("owner/name").folder
    assert [path for path in folder.rglob("*") if path.is_symlink()] == []


def test_what_the_user_should_know_is_a_warning(exporter, checkpoint):
    from diffutron_ort_export.progress import note

    exporter.before.append(lambda: note("two matrices stayed in float32"))
    with pytest.warns(DiffutronWarning, match="two matrices stayed"):
        load_bundle(checkpoint)


# Offline


@pytest.mark.parametrize("library", ["offline", "missing"])
def test_without_the_hub_the_commit_that_was_last_used_answers(exporter, hub, monkeypatch, library):
    load_bundle("owner/name", "v1")
    hub.commit = LATER
    last = load_bundle("owner/name", "v1")
    if library == "offline":
        take_offline(monkeypatch)
    else:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert load_bundle("owner/name", "v1") == last
    for revision, variant in ((None, None), ("v2", None), ("v1", "fp32"), ("2" * 40, None)):
        with pytest.raises(BundleFileError, match="owner/name is not a folder here, and"):
            load_bundle("owner/name", revision, variant=variant)
    assert len(exporter.requests) == 2


def test_after_a_failed_export_of_a_new_commit_the_old_one_answers_offline(exporter, hub, monkeypatch):
    old = load_bundle("owner/name")
    hub.commit = LATER
    exporter.before.append(lambda: [][0])
    with pytest.raises(IndexError):
        load_bundle("owner/name")
    take_offline(monkeypatch)
    assert load_bundle("owner/name") == old


def test_a_damaged_note_of_commits_is_none(exporter, hub, cache, monkeypatch):
    load_bundle("owner/name")
    [path] = cache.glob("revisions/*.json")
    path.write_text('{"main": "../../x"}')
    take_offline(monkeypatch)
    with pytest.raises(BundleFileError):
        load_bundle("owner/name")


# Folders that change


def test_a_folder_is_known_by_its_name_and_content(exporter, checkpoint, tmp_path):
    first = load_bundle(checkpoint)
    (checkpoint / "model.safetensors").touch()
    (checkpoint / "README.md").write_text("new")
    copy = shutil.copytree(checkpoint, tmp_path / "backup" / "checkpoint")
    assert load_bundle(checkpoint) == load_bundle(copy) == first
    assert len(exporter.requests) == 1
    renamed = checkpoint.rename(tmp_path / "checkpoint-Base")  # another name can mean another context length
    assert load_bundle(renamed) != first
    assert len(exporter.requests) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "generation_config.json"])
def test_a_folder_that_changed_is_exported_again(exporter, checkpoint, monkeypatch, name):
    path = checkpoint / name
    if not path.exists():
        path.write_text('{"seed": 3}')
    path.touch()
    modified = path.stat().st_mtime_ns
    monkeypatch.setattr("diffutron_ort.bundle.fingerprint.time", SimpleNamespace(time=lambda: modified / 1e9))
    before, first = path.read_bytes(), load_bundle(checkpoint)
    path.write_bytes(before.replace(b"e", b"E", 1))  # of the same size,
    os.utime(path, ns=(modified, modified))  # and within one tick of the clock
    second = load_bundle(checkpoint)
    path.write_bytes(before)
    assert first.folder == load_bundle(checkpoint).folder != second.folder
    assert len(exporter.requests) == 2


def test_hashes_are_kept(exporter, checkpoint, monkeypatch):
    first = load_bundle(checkpoint)
    monkeypatch.setattr("diffutron_ort.bundle.fingerprint._sha256", lambda path: pytest.fail(f"{path} was hashed"))
    assert load_bundle(checkpoint) == first


def test_a_folder_that_changes_while_it_is_exported_is_refused(exporter, checkpoint, cache):
    exporter.before.append(lambda: (checkpoint / "model.safetensors").write_bytes(b"other"))
    with pytest.raises(CheckpointError, match="was written to while it was exported; try again"):
        load_bundle(checkpoint)
    assert left(cache) == []


# Refusals


def test_without_the_exporter_it_says_what_to_install(exporter, hub, cache, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "diffutron_ort_export.pipeline", None)
    assert main(["generate", QUESTION, "--model", "owner/name"]) == 1
    [message] = capsys.readouterr().err.splitlines()
    assert "owner/name is a checkpoint, which is exported when it is first used" in message
    assert "pip install 'diffutron-ort[export]'" in message
    assert hub.fetched == ["config.json"]
    assert left(cache) == []


def test_without_the_exporter_an_export_is_found(exporter, checkpoint, monkeypatch):
    first = load_bundle(checkpoint)
    for name in ("command", "pipeline"):
        monkeypatch.setitem(sys.modules, f"diffutron_ort_export.{name}", None)
    assert load_bundle(checkpoint) == first


def test_another_network_is_refused_before_it_is_downloaded(exporter, hub, checkpoint, cache):
    (checkpoint / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="owner/name cannot be exported: its config.json says model_type 'llama'"):
        load_bundle("owner/name")
    assert hub.fetched == ["config.json"]
    assert left(cache) == []


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("int3", "variant 'int3': there are fp32, int8, int8-batch, fp16"),
        ("plain", "variant plain alone: nothing here generates from it"),
        ("../x", "variant='../x': must be the name of a variant"),
        (8, "variant=8: must be the name of a variant"),
    ],
)
def test_a_variant_that_cannot_be_exported_is_refused_at_once(exporter, hub, variant, message):
    with pytest.raises(OptionError, match=message):
        load_bundle("owner/name", variant=variant)
    assert hub.fetched == ["config.json"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_checkpoint_that_the_exporter_refuses_leaves_nothing(checkpoint, cache, name):
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=name):
        load_bundle(checkpoint)
    assert left(cache) == []


def test_pickles_are_refused(checkpoint, cache):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="pickles and never opened"):
        load_bundle(checkpoint)
    assert left(cache) == []


def test_a_cache_that_cannot_be_written_is_an_error(exporter, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(user_cache.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(DiffutronError, match="cannot be written: .*; set DIFFUTRON_CACHE to a writable folder"):
        load_bundle(checkpoint)


def test_a_full_disk_is_an_error_and_leaves_nothing(exporter, checkpoint, cache):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, usual[1]))
    try:
        with pytest.raises(DiffutronError, match="cannot be written: .*; make room"):
            load_bundle(checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert left(cache) == []
    assert load_bundle(checkpoint).default_variant == "int8"


def test_an_interrupt_leaves_nothing(exporter, checkpoint, cache):
    def interrupted():
        raise KeyboardInterrupt

    exporter.before.append(interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_bundle(checkpoint)
    assert left(cache) == []


# Several processes


def fork(act):
    """Run a function in a process of its own, and return its id."""
    process = os.fork()
    if not process:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def killed_at(count, act):
    """Run a function in a process that is killed as it changes the file system for the `count`th time."""
    changes = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.copyfile", "os.utime", "tempfile.mkstemp"}
    seen = 0

    def count_down(event, arguments):
        nonlocal seen
        if event in changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), 9)

    def counted():
        sys.addaudithook(count_down)
        act()

    _, status = os.waitpid(fork(counted), 0)
    return os.WIFSIGNALED(status)


def test_killed_at_any_moment_and_run_again_it_answers(exporter, hub, cache):
    count = 1
    while killed_at(count, lambda: load_bundle("owner/name")):
        assert load_bundle("owner/name").default_variant == "int8"
        assert [export.is_complete for export in exports()] == [True]
        assert len(exporter.requests) in (0, 1)
        for folder in (cache, hub.cache):
            shutil.rmtree(folder)
        exporter.requests.clear()
        count += 1
    assert count > 30


def test_of_two_processes_one_exports_and_the_other_waits_and_says_so(cache, checkpoint, tmp_path, monkeypatch):
    begun, waiting = tmp_path / "begun", tmp_path / "waiting"

    def slowly(request, progress):
        with begun.open("a") as file:
            file.write("x")
        end = time.monotonic() + 120
        while not waiting.exists() and time.monotonic() < end:
            time.sleep(0.01)
        write(request, progress)

    def note(stage, done):
        if stage.startswith("waiting for another process"):
            waiting.touch()

    monkeypatch.setattr("diffutron_ort_export.command.write", slowly)
    processes = [fork(lambda: load_bundle(checkpoint, progress=note)) for _ in range(2)]
    assert [os.waitpid(process, 0)[1] for process in processes] == [0, 0]
    assert waiting.exists()
    assert begun.read_text() == "x"
    assert load_bundle(checkpoint).default_variant == "int8"
    assert begun.read_text() == "x"


# The command line


def test_generate_exports_and_answers(exporter, hub, capsys):
    for _ in range(2):
        assert main(["generate", QUESTION, "--model", "owner/name"]) == 0
    out, err = capsys.readouterr()
    assert out == "on yedi\non yedi\n"
    assert err == "reading\na library prints this\nfinishing owner/name\n"
    assert main(["fill", "bir <mask>", "--model", "owner/name"]) == 0
    assert len(exporter.requests) == 1


@pytest.mark.parametrize(
    ("command", "function"),
    [("verify", "verify.verify"), ("demo", "demo.serve"), ("bench", "bench.bench.bench")],
)
def test_the_other_commands_take_a_checkpoint_too(exporter, hub, monkeypatch, command, function):
    given = []

    def noted(*arguments, **options):
        given.extend(arguments)
        raise DiffutronError("enough")

    monkeypatch.setattr(f"diffutron_ort.cli.{function}", noted)
    assert main([command, "owner/name"]) == 1
    folder = load_bundle("owner/name").folder
    assert (given[1]["model"] if command == "bench" else str(given[0])) == str(folder)
    assert len(exporter.requests) == 1


def test_what_is_in_the_cache_is_listed_and_removed(exporter, hub, checkpoint, cache, capsys):
    assert main(["list"]) == 0
    assert "no checkpoint was exported into" in capsys.readouterr().err
    days = [time.strftime("%Y-%m-%d")]
    for source, variant in (("owner/name", "int8"), ("owner/name", "fp32"), (str(checkpoint), "int8")):
        load_bundle(source, variant=variant)
    days.append(time.strftime("%Y-%m-%d"))
    capsys.readouterr()
    assert main(["list"]) == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["model", "variant", "size", "last", "used"]
    assert all(row.pop() in days for row in rows)
    assert rows == [
        [str(checkpoint), "int8", "4.5", "MB"],
        ["owner/name@0000000", "fp32", "16.1", "MB"],
        ["owner/name@0000000", "int8", "4.5", "MB"],
    ]
    for given, remaining in (
        (["owner/name@1"], 3),
        (["owner/nam"], 3),
        (["owner/name@000", "--variant", "fp32"], 2),
        ([os.path.relpath(checkpoint)], 1),
        (["owner/name"], 0),
    ):
        before = len(list(exports()))
        assert main(["rm", *given, "--yes"]) == int(before == remaining)
        assert len(list(exports())) == remaining
    assert left(cache) == []
    assert "owner/nam is not among the exports" in capsys.readouterr().err


def test_an_export_that_was_killed_is_listed_and_removed(exporter, checkpoint, cache, capsys):
    _, status = os.waitpid(fork(lambda: kill_while_exporting(exporter, checkpoint)), 0)
    assert os.WIFSIGNALED(status)
    assert main(["list"]) == 0
    assert capsys.readouterr().out.split()[-1] == "unfinished"
    assert main(["rm", str(checkpoint), "--yes"]) == 0
    assert left(cache) == []


def kill_while_exporting(exporter, checkpoint):
    exporter.before.append(lambda: os.kill(os.getpid(), 9))
    load_bundle(checkpoint)


def test_a_folder_of_another_program_is_neither_written_nor_listed_nor_removed(exporter, checkpoint, cache):
    entry = load_bundle(checkpoint).folder.parent
    (cache / EXPORTED / user_cache.MARKER).unlink()
    (entry / "bundle" / MANIFEST).unlink()
    assert list(exports()) == []
    for act in (lambda: load_bundle(checkpoint), lambda: user_cache.remove(entry)):
        with pytest.raises(DiffutronError, match="exported was not made by diffutron-ort"):
            act()
    assert (entry / "source.json").exists()


def test_what_is_of_no_use_is_marked_and_removed_together(exporter, hub, checkpoint, cache, capsys, monkeypatch):
    """An export of an older release, a damaged one and what an interrupt left go; a used and a newer one stay."""
    for variant in ("int8", "fp32"):
        load_bundle("owner/name", variant=variant)
    load_bundle(checkpoint)
    monkeypatch.setattr("diffutron_ort.bundle.exported.RELEASE", "0.0.9-2")
    load_bundle("owner/name", variant="int8")
    monkeypatch.setattr("diffutron_ort.bundle.exported.RELEASE", "99.1.0-3")
    load_bundle("owner/name", variant="int8")
    monkeypatch.undo()
    monkeypatch.setenv(user_cache.VARIABLE, str(cache))
    [damaged] = [export for export in exports() if export.variant == "fp32"]
    (damaged.folder / "bundle" / "tokenizer.json").write_bytes(b"")
    (cache / EXPORTED / f"{user_cache.REMOVED}x").mkdir()
    (cache / EXPORTED / f"{user_cache.REMOVED}x" / "weights").write_bytes(b"0" * 1_000_000)
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["exports"]
    states = ["damaged", "of a newer release", "of an older release", "ready", "ready"]
    assert sorted(one["state"] for one in listed) == states
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["rm", "--old"]) == 0
    captured = capsys.readouterr()
    assert "damaged" in captured.out
    assert "of an older release, 0.0.9-2" in captured.out
    freed = sum(one["size"] for one in listed if one["state"] in ("damaged", "of an older release")) + 1_000_000
    assert f"removed {freed / 1e6:,.1f} MB" in captured.err
    assert sorted(export.state for export in exports()) == ["of a newer release", "ready", "ready"]
    assert list((cache / EXPORTED).glob(f"{user_cache.REMOVED}*")) == []
    assert main(["rm", "--old"]) == 0
    assert "there is no older, damaged or unfinished export" in capsys.readouterr().err
    assert main(["rm", "owner/name", "--old"]) == 2


def test_an_export_that_is_going_on_is_not_removed(exporter, checkpoint, capsys):
    codes = []
    exporter.before.append(lambda: codes.append(main(["rm", "--old"])))
    assert load_bundle(checkpoint).folder.is_dir()
    assert codes == [0]
    assert "there is no older" in capsys.readouterr().err
    assert [export.state for export in exports()] == ["ready"]


def test_rm_asks_before_it_removes_an_export(exporter, checkpoint, capsys, monkeypatch):
    load_bundle(checkpoint)
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["rm", str(checkpoint)]) == 2
    assert "give --yes" in capsys.readouterr().err
    assert len(list(exports())) == 1


def test_info_tells_what_would_be_exported_and_exports_nothing(exporter, hub, cache, capsys):
    load_bundle("owner/name", variant="fp32")
    assert main(["info", "owner/name"]) == 0
    said = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert said["checkpoint"] == "owner/name"
    assert said["revision"] == COMMIT
    assert said["exported"] == "fp32"
    assert said["would"] == "be    int8, about 0.3 MB, exported when it is first used"
    assert Path(said["to"]).parent == cache / EXPORTED
    assert [request.variants for request in exporter.requests] == [("fp32",)]
    (hub.repository / "config.json").write_text('{"model_type": "llama"}')
    hub.commit = LATER
    assert main(["info", "owner/name"]) == 1
    assert "says model_type 'llama'" in capsys.readouterr().err


def test_info_shows_where_a_model_comes_from(exporter, hub, capsys):
    load_bundle("owner/name")
    assert main(["info", "owner/name"]) == 0
    out = capsys.readouterr().out
    for words in ("model       owner/name\n", f"revision    {COMMIT}\n", "context     256 tokens\n", "int8     4.3 MB"):
        assert words in out
    assert "fp32" not in out
