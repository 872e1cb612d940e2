"""`thalweg up --runtime docker`: what it says where it can't be done, and on a real engine a small stack's whole life.

The whole stack is `infra/test-compose`'s. Here its containers are of this machine's own shell: a second each.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from infra.cli import main
from infra.compose.checks import check
from infra.compose.composition import ROOT, compose
from infra.compose.engine import Project
from infra.local.stack import read_running
from infra.local.supervision import DEATHS
from tests.shells import Small

has_compose = pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")


def engine_runs() -> bool:
    found = shutil.which("docker")
    return found is not None and subprocess.run([found, "info"], capture_output=True, check=False).returncode == 0


needs_engine = pytest.mark.skipif(
    os.getuid() != 0 or not engine_runs(), reason="needs a Docker engine, and root to kill what it runs"
)


# Where it can't be done


def refused(host: str, *before: str) -> str:
    """Return what a process is told that looks for an engine; in our own the SDK would leave sockets open."""
    lines = [*before, "try: Project('any')", "except EngineError as error: print(error, end='')"]
    code = "\n".join(["import os", "from infra.compose.engine import EngineError, Project", *lines])
    done = python("-c", code, DOCKER_HOST=host, DOCKER_CONFIG="/nonexistent")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_an_engine_it_says_where_none_is(tmp_path: Path) -> None:
    """No socket, and one behind which nobody listens any more: where it was looked for, and what to do."""
    none, silent = tmp_path / "none.sock", tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(silent))
    for host in (f"unix://{none}", f"unix://{silent}"):
        assert refused(host) == f"no Docker engine answers at {host}: start one, or say where it is in DOCKER_HOST"


@pytest.mark.skipif(os.getuid() != 0, reason="to give a right up one must have it")
def test_an_engine_that_is_not_open_to_us_is_no_missing_one() -> None:
    """A socket that we may not open: whom to belong to."""
    with tempfile.TemporaryDirectory() as folder:
        host = f"unix://{folder}/engine.sock"
        assert refused(host, "os.setuid(65534)").startswith(f"{host} is not open to you: join its group (usermod -aG")


def test_what_is_no_engine_is_told_in_a_line(tmp_path: Path) -> None:
    """What answers and is no engine, and an address that is none, come as one line of ours."""
    place = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place))
        other.listen()

        def answer() -> None:
            with other.accept()[0] as client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 7\r\n\r\nsome\nno")

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        for host in (f"unix://{place}", "nonsense"):
            said = refused(host)
            assert said.startswith(f"the Docker engine at {host}: ")
            assert "\n" not in said
        answering.join(10)


def test_without_docker_compose_it_says_what_to_install(tmp_path: Path) -> None:
    """The command ends with 1 and a line on what to install, without a traceback."""
    done = python("-m", "infra.cli", "up", "--runtime", "docker", "--run-dir", str(tmp_path), PATH=str(tmp_path))
    said = "\nthalweg: docker-compose is missing; install it with: apt-get install docker-compose\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--runtime", "docker", "--broker", "kafka", "--partitions", "5"), "--partitions, --broker"),
        (("--runtime", "docker", "--instances", "features=2"), "--instances"),
        (("--runtime", "docker", "--guarded"), "--guarded"),
        (("--compose-file", "compose.yaml"), "--compose-file"),
    ],
)
def test_an_option_of_the_other_runtime_is_refused_by_name(
    given: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What would be left undone is refused, by name."""
    handler = signal.getsignal(signal.SIGTERM)
    assert main(["up", *given]) == 1
    signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr().err
    assert f"thalweg: {named}" in said
    assert "is of --runtime docker" in said or "of --runtime local" in said


# What docker-compose makes of the files


@has_compose
def test_what_starts_behind_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the files and the settings: who starts, behind whom, of which image, where; a variable goes before .env."""
    monkeypatch.setenv("CONSOLE_PORT", "8765")
    found = compose([ROOT / "compose.yaml", ROOT / "infra/compose.local.yaml"], "electricity")
    assert (found.project, found.stream) == (os.environ.get("COMPOSE_PROJECT_NAME", "thalweg"), "electricity")
    assert found.services["labels"]["environment"]["THALWEG_STREAM"] == "electricity"
    assert found.before("inference") == {"kafka", "prepare", "triton"}
    assert found.before("kafka") == set()
    assert {image.partition(":")[0] for image in found.images} == {
        f"thalweg/{name}" for name in ("services", "trainer", "triton", "standins")
    }
    assert found.ports[8765] == "console"
    assert found.named(8765) == "CONSOLE_PORT"
    assert "kafka-2" not in found.services
    assert found.lacking == []  # who reads secrets is left out


@has_compose
def test_a_profile_has_more_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind a profile starts where the profile is asked for, and what reads no secret needs none."""
    monkeypatch.setenv("COMPOSE_PROFILES", "three-nodes")
    found = compose()
    assert {"kafka-2", "kafka-3"} <= set(found.services)
    assert "triton-gpu" not in found.services
    assert {path.name for path in found.secrets.values()} >= {path.name for path in found.lacking}


# A small stack, on a real engine


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    engine = docker.from_env()
    stack = Small(tmp_path, engine)
    yield stack
    if stack.process is not None and stack.process.poll() is None:
        stack.end(signal.SIGKILL)
    mine = {"label": f"com.docker.compose.project={stack.name}"}
    for container in engine.containers.list(all=True, filters=mine):
        container.remove(force=True)
    for network in engine.networks.list(filters=mine):
        network.remove()
    for volume in engine.volumes.list(filters=mine):
        volume.remove()
    engine.images.remove(stack.image)
    engine.close()


@pytest.mark.timeout(400)
@has_compose
@needs_engine
def test_a_stack_is_followed_from_its_start_to_its_end(small: Small) -> None:
    """Health and death are said as they happen, others are told where it answers; Ctrl-C leaves the volumes alone."""
    small.start()
    small.wait_said(
        "kafka starts", "kafka is healthy after", "all 5 containers are well", "flights is up", "console: .*\n"
    )
    assert small.said.index("prepare has ended well") < small.said.index("inference starts")
    assert f"console: http://127.0.0.1:{small.ports['CONSOLE']}/#token=shown-once\n" in small.said
    told = read_running(small.run_dir, "flights")
    assert told is not None
    assert (told.broker, told.ingestion) == (
        f"127.0.0.1:{small.ports['KAFKA']}",
        f"http://127.0.0.1:{small.ports['INGESTION']}",
    )
    assert "shown-once" not in (small.run_dir / "flights" / "running.json").read_text()
    assert re.fullmatch(r"http://\d+\.\d+\.\d+\.\d+:9100", told.services["inference"])
    with closing(Project(small.name)) as project:
        project.kill("inference")
        small.wait_said("inference exited with code 137", "inference said last:\nwas here", "inference starts again")
        assert small.end() == 130
        assert re.search("inference has stopped.*kafka has stopped.*down --volumes\n", small.said, re.DOTALL), (
            small.said
        )
        assert (project.containers(), read_running(small.run_dir, "flights")) == ({}, None)
        assert project.volume("data") is not None
    small.start()
    small.wait_said("all 5 containers are well", "console: .*\n")
    assert "#token" not in small.said
    assert small.end(signal.SIGTERM) == 130


@has_compose
@needs_engine
def test_what_would_fail_is_said_before_anything_starts(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken is named with its service and setting, and so is an image of ours that was not built."""
    for name, value in small.environment.items():
        monkeypatch.setenv(name, value)
    with closing(Project(small.name)) as project:
        check(compose([small.file]), project)
        with socket.socket() as other:
            other.bind(("127.0.0.1", small.ports["CONSOLE"]))
            other.listen()
            with pytest.raises(ValueError, match=rf"port {small.ports['CONSOLE']}, of console, .* CONSOLE_PORT="):
                check(compose([small.file]), project)
        monkeypatch.setenv("TINY", "thalweg/services:never")
        with pytest.raises(ValueError, match=r"no thalweg/services:never; build images with: infra/images/build$"):
            check(compose([small.file]), project)
        assert project.containers() == {}


@pytest.mark.timeout(400)
@has_compose
@needs_engine
def test_what_dies_over_and_over_ends_the_run(small: Small, tmp_path: Path) -> None:
    """A container that no restart heals is named with its exit code and what each life of it said; all is stopped."""
    over = tmp_path / "over.yaml"
    over.write_text("services: {inference: {command: [sh, -c, 'echo not today; exit 3']}}")
    small.start(over)
    assert small.process is not None
    assert small.process.wait(180) == 1
    told = re.findall(r"inference exited with code 3\ninference said last:\n((?:not today\n)*)", small.said)
    assert told == ["not today\n"] * DEATHS, small.said
    assert f"thalweg: {DEATHS} deaths of inference within" in small.said
    assert "Traceback" not in small.said
    with closing(Project(small.name)) as project:
        assert project.containers() == {}


def python(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    more = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=more, capture_output=True, text=True, timeout=120, check=False
    )
