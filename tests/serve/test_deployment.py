"""The examples of deployment, as far as they can be tried without their machines."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from diffutron_ort.cli.parser import Parser
from diffutron_ort.cli.serve import add_arguments
from diffutron_ort.serve.settings import Settings
from tests.serve.fakes import PATIENCE, TAKEN, serving
from tests.serve.programs import eventually

FOLDER = Path(__file__).parents[2] / "examples" / "deployment"

if not FOLDER.is_dir():
    pytest.skip("an installed package's tests have no examples beside them", allow_module_level=True)


def read(name):
    return (FOLDER / name).read_text("utf-8")


@pytest.fixture
def nginx(tmp_path):
    """nginx with the example's configuration, without TLS, before a server; yields the address."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("there is no nginx")
    with serving(Settings(port=0, allow_hosts="ai.example.com")) as port:
        example = re.sub(r" *ssl_certificate.*\n", "", read("nginx.conf"))
        example = example.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        example = example.replace("443 ssl", f"unix:{tmp_path}/socket")
        places = "".join(f"{name}_temp_path {tmp_path}/{name};\n" for name in PLACES)
        whole = f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        whole += f"http {{ access_log off;\n{places}{example}}}\n"
        (tmp_path / "nginx.conf").write_text(whole)
        process = subprocess.Popen([program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
        try:
            eventually(lambda: process.poll() is not None or (tmp_path / "socket").exists())
            transport = httpx.HTTPTransport(uds=str(tmp_path / "socket"), retries=9)  # it may not listen yet
            yield httpx.Client(transport=transport, base_url="http://ai.example.com", timeout=PATIENCE)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_nginx_passes_streams_on_as_they_come(nginx):
    TAKEN.clear()
    with nginx.stream("GET", "/held") as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines) == "data: 1"
        TAKEN.set()
        assert list(filter(None, lines)) == ["data: [DONE]"]


def test_nginx_names_the_host_and_the_request_and_bounds_the_body(nginx):
    answer = nginx.post("/echo", content=b"{}", headers={"content-type": "application/json"})
    assert answer.json()["body"] == "{}"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert nginx.post("/echo", content=b"x" * (2**20 + 1)).status_code == 413
    assert nginx.get("/metrics").status_code == 404
    assert nginx.get("/health", headers={"host": "other.example"}).status_code == 421


def test_systemd_reads_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd")
    unit = read("diffutron-ort.service").replace("/opt/diffutron-ort/bin/diffutron-ort", "/bin/true")
    (tmp_path / "example.service").write_text(unit)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "example.service")], capture_output=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, b"")


def commands():
    """Return the arguments of `serve` in each example."""
    entry = re.search(r'ENTRYPOINT \["diffutron-ort", "serve", (.*)\]', read("Dockerfile"))[1]
    unit = re.search(r"diffutron-ort serve (.*)", read("diffutron-ort.service"))[1].split()
    lists = [entry + ", " + re.search(r"CMD \[(\"/model.*)\]", read("Dockerfile"))[1]]
    lists += [re.search(r"(?:command|args): \[(.*)\]", read(name))[1] for name in ("compose.yaml", "kubernetes.yaml")]
    return [unit, *(re.findall('"([^"]*)"', one) for one in lists)]


@pytest.mark.parametrize("arguments", commands())
def test_the_flags_of_the_examples_are_there(arguments):
    parser = Parser(prog="serve")
    add_arguments(parser)
    parsed = parser.parse_args(arguments)
    assert (parsed.model.endswith("/model"), parsed.variant) == (True, "int8-batch")


def test_the_health_check_is_a_program_that_tells_life_from_death():
    code = re.search(r'HEALTHCHECK .*"-c", "(.*)"\]', read("Dockerfile").replace("\\\n", ""))[1]
    with serving(Settings(port=0)) as port:
        alive = ["python3", "-c", code.replace("8000", str(port)).replace("timeout=2", f"timeout={PATIENCE}")]
        assert subprocess.run(alive, check=False).returncode == 0
    assert subprocess.run(alive, check=False, stderr=subprocess.DEVNULL).returncode != 0


def test_examples_wait_longer_than_the_server_does():
    grace = Settings().grace
    for name, pattern in (
        ("compose.yaml", r"stop_grace_period: (\d+)s"),
        ("diffutron-ort.service", r"TimeoutStopSec=(\d+)"),
        ("kubernetes.yaml", r"terminationGracePeriodSeconds: (\d+)"),
    ):
        assert int(re.search(pattern, read(name))[1]) > grace + 10, name
    assert int(re.search(r"proxy_read_timeout (\d+)s", read("nginx.conf"))[1]) > Settings().deadline
    assert int(re.search(r"keepalive_timeout (\d+)s", read("nginx.conf"))[1]) < Settings().idle_timeout
    assert "client_max_body_size 1m" in read("nginx.conf")
    assert Settings().max_body == 2**20
