"""What CUDA needs: the driver, a GPU, and libraries that are loaded from NVIDIA's packages. No GPU is there."""

import re
import shutil
import sys
import warnings
from pathlib import Path

import onnxruntime as ort
import pytest

from diffutron_ort.bundle.load import load_bundle
from diffutron_ort.errors import DiffutronWarning, ProviderError
from diffutron_ort.runtime import cuda, usable
from diffutron_ort.runtime.cuda import FOR_CUDA_12, INSTALL, LIBRARIES, Trouble, failure_in, missing, troubles
from diffutron_ort.runtime.session import Session

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SHARED = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"  # a library that can be loaded
ABSENCE = Trouble("there is no GPU", "buy one", is_absence=True)
LACK = Trouble("libcublas.so.13 cannot be loaded", INSTALL)

if sys.platform != "linux":
    pytest.skip("nothing is known of other systems", allow_module_level=True)


class Machine:
    """A machine with a driver, and some libraries where the loader finds them."""

    def __init__(self, *files, code=0, version=13000):
        self.files, self.code, self.version = {*files, cuda.DRIVER}, code, version

    def open(self, file):
        return self if file in self.files else None

    def cuInit(self, flags):  # noqa: N802 - CUDA's name
        assert flags == 0
        return self.code

    def cuDriverGetVersion(self, place):  # noqa: N802 - CUDA's name
        place._obj.value = self.version
        return 0


@pytest.fixture
def on(monkeypatch):
    """Return a function that puts this process on a machine."""

    def put(machine):
        monkeypatch.setattr(cuda, "_open", machine.open)
        cuda._load.cache_clear()
        cuda._trouble_of_driver.cache_clear()

    yield put
    cuda._load.cache_clear()
    cuda._trouble_of_driver.cache_clear()


def files(major):
    return [library.file for library in LIBRARIES[major]]


@pytest.mark.parametrize("major", LIBRARIES)
def test_with_a_driver_a_gpu_and_all_libraries_there_is_no_trouble(major, on):
    on(Machine(*files(major)))
    assert list(troubles(f"{major}.0")) == []
    assert missing(f"{major}.0") == ()


def test_without_a_driver_that_is_the_first_trouble_and_no_library_is_loaded_yet(on):
    machine = Machine()
    machine.files.clear()
    asked = []
    machine.open = lambda file: asked.append(file)  # returns None
    on(machine)
    trouble = next(troubles("13.0"))
    assert trouble.is_absence
    assert "driver is not installed here (libcuda.so.1)" in trouble.text
    assert asked == ["libcuda.so.1"]


@pytest.mark.parametrize(
    ("machine", "said", "is_absence"),
    [
        (Machine(*files(13), code=100), "NVIDIA's driver finds no GPU, and CUDA_VISIBLE_DEVICES is ''", True),
        (Machine(*files(13), code=999), "NVIDIA's driver fails, with error 999", False),
        (Machine(*files(13), version=12040), f"runs CUDA 12.4, and .* needs CUDA 13: .* {FOR_CUDA_12[:11]}", False),
    ],
)
def test_a_driver_that_does_not_serve_is_a_trouble(machine, said, is_absence, on, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    on(machine)
    [trouble] = troubles("13.0")
    assert trouble.is_absence is is_absence
    assert re.search(said, str(trouble))


def test_missing_libraries_are_named_with_their_packages_and_the_line_that_installs_them(on):
    on(Machine("libcudart.so.13", "libcublasLt.so.13", "libcurand.so.10"))
    assert list(troubles("13.0")) == [Trouble("libcublas.so.13 (of nvidia-cublas) cannot be loaded", INSTALL)]
    assert [library.file for library in missing("13.0")] == [
        "libnvrtc.so.13", "libcublas.so.13", "libcufft.so.12", "libcudnn.so.9",
    ]  # fmt: skip


@pytest.mark.parametrize("version", ["", "11.8", "14.0", "of tomorrow"])
def test_of_other_versions_nothing_is_said(version, on):
    on(Machine())
    assert list(troubles(version)) == []
    assert missing(version) == ()


@pytest.mark.skipif(not SHARED.exists(), reason="this ONNX Runtime has no library to load")
def test_a_library_is_loaded_from_where_pip_puts_it(tmp_path, monkeypatch):
    place = tmp_path / "nvidia" / "of_test" / "lib"
    place.mkdir(parents=True)
    shutil.copy(SHARED, place / "libfoo_of_test.so.1")
    (place / "libbroken_of_test.so.1").write_bytes(b"no library")
    assert not cuda._is_loaded("libfoo_of_test.so.1")
    monkeypatch.syspath_prepend(tmp_path)
    assert cuda._is_loaded("libfoo_of_test.so.1")
    assert "libfoo_of_test.so.1" in Path("/proc/self/maps").read_text()
    assert not cuda._is_loaded("libbroken_of_test.so.1")


def test_what_cuda_says_is_found_in_a_long_message():
    error = RuntimeError("cuda_call.cc:154 std::conditional_t<...> CUDA failure 100: no device is detected ; GPU=-1 ;")
    assert failure_in(error) == "CUDA failure 100: no device is detected"
    assert failure_in(RuntimeError("another\nfailure")) == "another failure"


# Sessions


@pytest.fixture
def bundle(monkeypatch):
    """A bundle; ONNX Runtime says that it has CUDA."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    return load_bundle()


def found(monkeypatch, *troubles):
    """Make these the troubles of CUDA."""
    monkeypatch.setattr(usable, "troubles", lambda version: iter(troubles))


def silently(*arguments, **options):
    """Open a session, and return it; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Session(*arguments, **options)


def test_cuda_that_was_asked_for_and_cannot_be_used_is_an_error_with_all_troubles(bundle, monkeypatch):
    found(monkeypatch, ABSENCE, LACK)
    said = rf"^provider 'cuda' cannot be used\. there is no GPU: buy one\. libcublas\.so\.13 .*: {INSTALL[:11]}"
    for name in ("cuda", CUDA):
        with pytest.raises(ProviderError, match=said):
            Session(bundle, "fp32", providers=[name, "cpu"])


def test_without_a_gpu_the_cpu_is_taken_silently(bundle, monkeypatch, capfd):
    found(monkeypatch, ABSENCE, LACK)
    assert silently(bundle, "fp32").providers == [CPU]
    assert capfd.readouterr() == ("", "")


def test_with_a_gpu_that_cannot_be_used_the_cpu_is_taken_with_a_warning(bundle, monkeypatch):
    found(monkeypatch, LACK)
    with pytest.warns(DiffutronWarning, match=r"^CUDA cannot be used\. libcublas.* The model runs on the CPU instead"):
        assert Session(bundle, "fp32").providers == [CPU]


def test_where_cuda_is_not_wanted_nothing_is_loaded(bundle, monkeypatch):
    def never(version):
        raise AssertionError(version)

    monkeypatch.setattr(usable, "troubles", never)
    assert silently(bundle, "fp32", providers=["cpu"]).providers == [CPU]
    assert silently(bundle, "int8").providers == [CPU]


@pytest.fixture
def failing(bundle, monkeypatch):
    """The bundle; CUDA has no troubles, and fails when a graph is opened."""
    real = ort.InferenceSession

    def fails(path, options, providers, enable_fallback):
        assert enable_fallback == 0  # it would print on standard output
        if providers[0] == CUDA:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0 ; hostname=here")
        return real(path, options, providers=providers)

    monkeypatch.setattr(ort, "InferenceSession", fails)
    found(monkeypatch)
    return bundle


def test_cuda_that_fails_is_an_error_where_it_was_asked_for(failing):
    with pytest.raises(ProviderError, match="with provider 'cuda': CUDA failure 2: out of memory$"):
        Session(failing, "fp32", providers=["cuda", "cpu"])


def test_cuda_that_fails_leaves_the_cpu_where_nothing_was_asked_for(failing, capfd):
    with pytest.warns(DiffutronWarning, match=r"CUDA failure 2: out of memory\. The model runs on the CPU instead"):
        assert Session(failing, "fp32").providers == [CPU]
    assert capfd.readouterr() == ("", "")


def test_cuda_that_is_left_out_silently_is_named_with_what_may_be_missing(bundle, monkeypatch):
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda path, options, **_: real(path, options, providers=[CPU]))
    found(monkeypatch)
    monkeypatch.setattr(usable, "missing", lambda version: [LIBRARIES[12][-1]])
    with pytest.raises(
        ProviderError, match=r"perhaps for want of libcudnn\.so\.9 \(of nvidia-cudnn-cu12\): pip install"
    ):
        Session(bundle, "fp32", providers=["cuda"])
