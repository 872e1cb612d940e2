"""The containers of a compose project, and what a fault is to them: death as the kernel gives it, and a pause."""

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

import msgspec


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


class Project:
    """The containers of one compose project by service; `docker` is the engine's client on the path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def containers(self) -> dict[str, Container]:
        """Return each service's container, whatever state it is in."""
        listed = _docker("ps", "-aq", "--no-trunc", "--filter", f"label=com.docker.compose.project={self.name}").split()
        found = msgspec.json.decode(_docker("inspect", *listed)) if listed else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: _container(one) for one in found}

    def kill(self, service: str) -> None:
        """Kill a container's first process as the kernel would: nobody asked the engine, so its policy starts it again.

        `docker kill` would count as somebody's wish, which no policy undoes.
        """
        os.kill(self.containers()[service].pid, signal.SIGKILL)

    def pause(self, service: str) -> None:
        """Freeze all of a container: to others it looks alive and does not answer."""
        _docker("pause", self.containers()[service].id)

    def unpause(self, service: str) -> None:
        _docker("unpause", self.containers()[service].id)

    def read(self, service: str, path: str) -> str:
        """Return a file's text, as the container's own user reads it."""
        return _docker("exec", self.containers()[service].id, "cat", path)

    def log(self, service: str, lines: int = 15) -> str:
        return _docker("logs", "--tail", str(lines), self.containers()[service].id)


def _container(one: dict[str, Any]) -> Container:
    state, config = one["State"], one["Config"]
    return Container(
        id=one["Id"],
        status=state["Status"],
        health=state.get("Health", {}).get("Status", ""),
        restarts=one["RestartCount"],
        exit_code=state["ExitCode"],
        pid=state["Pid"],
        user=config["User"],
        read_only=one["HostConfig"]["ReadonlyRootfs"],
    )


def _docker(*arguments: str) -> str:
    engine = shutil.which("docker")
    if engine is None:
        raise RuntimeError("docker is missing; install it with: apt-get install docker.io")
    done = subprocess.run(
        [engine, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stdout.strip()}")
    return done.stdout
