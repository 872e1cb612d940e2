"""The engine, through Docker's SDK: the containers of one compose project, what becomes of them, and faults.

Home of the library `docker`: what it raises leaves here as an EngineError that says what to do. A fault is death as the
kernel gives it, or a pause.
"""

import errno
import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import docker
from docker.errors import DockerException, ImageNotFound, NotFound

USUAL = "unix:///var/run/docker.sock"
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
TOLD = ("start", "die", "oom", "pause", "unpause", "health_status")


class EngineError(RuntimeError):
    """There is no engine, or it does not do what it was asked to."""


@dataclass(frozen=True)
class Container:
    """One container: how often the engine started it again, and what its health check says ("" where it has none)."""

    id: str
    status: str
    health: str
    restarts: int
    exit_code: int
    pid: int
    user: str
    read_only: bool
    address: str = ""  # on the project's network
    ports: Mapping[int, str] = field(default_factory=dict)  # where its own ports answer on this machine
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether it runs and does not say otherwise, or had an end and came to it."""
        if self.status == "exited":
            return self.exit_code == 0
        return self.status == "running" and self.health in ("healthy", "")


@dataclass(frozen=True)
class Event:
    """What became of a container; `at` is seconds since 1970, by the engine's clock."""

    service: str
    what: str  # one of TOLD; of health_status the status: healthy or unhealthy
    at: float
    exit_code: int = 0


class Project:
    """The containers of one compose project by service. EngineError at once if no engine answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._mine = {"label": f"{PROJECT}={name}"}
        with _ours():
            self._client = docker.from_env()

    def close(self) -> None:
        self._client.close()

    def containers(self) -> dict[str, Container]:
        """Return each service's container, whatever state it is in."""
        with _ours():
            listed = self._client.containers.list(all=True, filters=self._mine, ignore_removed=True)
            return {one.labels[SERVICE]: _container(one.attrs) for one in listed}

    def kill(self, service: str) -> None:
        """Kill a container's first process as the kernel would: nobody asked the engine, so its policy starts it again.

        What the engine kills counts as somebody's wish, which no policy undoes.
        """
        os.kill(self.containers()[service].pid, signal.SIGKILL)

    def end(self, service: str) -> None:
        """Kill it as a wish of somebody's: no policy starts it again."""
        with _ours():
            self._of(service).kill()

    def pause(self, service: str) -> None:
        """Freeze all of a container: to others it looks alive and does not answer."""
        with _ours():
            self._of(service).pause()

    def unpause(self, service: str) -> None:
        with _ours():
            self._of(service).unpause()

    def stop(self, service: str) -> None:
        """Ask it to end; after the time that it may take for that, kill it."""
        with _ours():
            self._of(service).stop()

    def read(self, service: str, path: str) -> str:
        """Return a file's text, as the container's own user reads it."""
        return self.run(service, "cat", path).decode()

    def run(self, service: str, *command: str) -> bytes:
        """Return what a command prints, run in the container by its own user."""
        with _ours():
            code, (said, wrong) = self._of(service).exec_run(list(command), demux=True)
        if code:
            raise EngineError(f"{service}: {(wrong or said or b'').decode(errors='replace').strip()}")
        return bytes(said or b"")

    def log(self, service: str, lines: int = 15, since: float | None = None, until: float | None = None) -> str:
        """Return its last lines, those between two times if any are given; nothing if it is gone already."""
        with _ours():
            try:
                return str(
                    self._of(service).logs(tail=lines, since=since, until=until).decode(errors="replace")
                ).rstrip()
            except NotFound:
                return ""

    def remove(self) -> None:
        """Remove what is left of the containers, and their network. What they keep is in volumes, and stays."""
        with _ours():
            for container in self._client.containers.list(all=True, filters=self._mine, ignore_removed=True):
                container.remove(force=True)
            for network in self._client.networks.list(filters=self._mine):
                network.remove()

    def lacks(self, images: Collection[str]) -> list[str]:
        """Return which of the images the engine has not got."""
        return [image for image in sorted(images) if not self._has(image)]

    def volume(self, name: str) -> str | None:
        """Return where the engine keeps a volume of the project on its machine; None if there is none."""
        with _ours():
            try:
                return str(self._client.volumes.get(f"{self.name}_{name}").attrs["Mountpoint"])
            except NotFound:
                return None

    def events(self) -> "SimpleQueue[Event | None]":
        """Return a queue that is told from now on what becomes of the containers; None is the engine's own end."""
        told: SimpleQueue[Event | None] = SimpleQueue()
        with _ours():
            wanted = {**self._mine, "type": "container", "event": list(TOLD)}
            stream = self._client.events(decode=True, filters=wanted)

        def listen() -> None:
            try:
                for one in stream:
                    told.put(_event(one))
            finally:
                told.put(None)

        threading.Thread(target=listen, daemon=True, name="the engine's events").start()
        return told

    def _of(self, service: str) -> Any:  # noqa: ANN401 - the SDK has no types
        found = self._client.containers.list(
            all=True, filters={"label": [*self._mine.values(), f"{SERVICE}={service}"]}
        )
        if not found:
            raise EngineError(f"{self.name} has no container {service}")
        return found[0]

    def _has(self, image: str) -> bool:
        with _ours():
            try:
                self._client.images.get(image)
            except ImageNotFound:
                return False
        return True


def _container(one: Mapping[str, Any]) -> Container:
    state, config, network = one["State"], one["Config"], one["NetworkSettings"]
    bound = {int(port.partition("/")[0]): places[0] for port, places in one["HostConfig"]["PortBindings"].items()}
    return Container(
        id=one["Id"],
        status=state["Status"],
        health=state.get("Health", {}).get("Status", ""),
        restarts=one["RestartCount"],
        exit_code=state["ExitCode"],
        pid=state["Pid"],
        user=config["User"],
        read_only=one["HostConfig"]["ReadonlyRootfs"],
        address=next((found["IPAddress"] for found in network["Networks"].values()), ""),
        ports={port: f"{place['HostIp']}:{place['HostPort']}" for port, place in bound.items()},
        environment=dict(line.partition("=")[::2] for line in config["Env"] or []),
    )


def _event(one: Mapping[str, Any]) -> Event:
    told = one["Actor"]["Attributes"]
    what = one["Action"].removeprefix("health_status: ")
    return Event(told[SERVICE], what, one["timeNano"] / 1e9, int(told.get("exitCode", 0)))


@contextmanager
def _ours() -> Iterator[None]:
    try:
        yield
    except (DockerException, OSError) as error:  # what requests raises is an OSError
        raise EngineError(_advice(error)) from error


def _advice(error: BaseException) -> str:
    """Say what the operator can do, by what the system said at the root of it."""
    place = os.environ.get("DOCKER_HOST", USUAL)
    match _number(error):
        case errno.ENOENT | errno.ECONNREFUSED:
            return f"no Docker engine answers at {place}: start one, or say where it is in DOCKER_HOST"
        case errno.EACCES:
            return (
                f"{place} is not open to you: join its group (usermod -aG docker $USER, then log in again), or be root"
            )
    said = getattr(error, "explanation", None) or error
    return f"the Docker engine at {place}: {str(said).strip().splitlines()[0]}"


def _number(error: BaseException | None) -> int | None:
    """Return the system's own number of an error, under whatever it was wrapped in."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None
