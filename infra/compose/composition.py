"""What docker-compose makes of the files of a stack: what starts, behind what, of which image, with which ports."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "compose.yaml",)


class NotComposed(RuntimeError):  # noqa: N818 - a state that the operator can change, as the message says
    """Docker-compose is not there, or it does not take the files."""


@dataclass(frozen=True)
class Composition:
    """A stack as docker-compose has it. `settings` are the lines of .env, and over them the environment's variables."""

    argv: Sequence[str]  # docker-compose with the files
    settings: Mapping[str, str]
    services: Mapping[str, Mapping[str, Any]]  # those that start, by name
    secrets: Mapping[str, Path]

    @property
    def project(self) -> str:
        return self.settings["COMPOSE_PROJECT_NAME"]

    @property
    def stream(self) -> str:
        return self.settings["STREAM"]

    @property
    def images(self) -> set[str]:
        return {str(one["image"]) for one in self.services.values()}

    @property
    def ports(self) -> dict[int, str]:
        """Return which service is to answer on which port of this machine."""
        told = ((name, _published(port)) for name, one in self.services.items() for port in one.get("ports", ()))
        return {port: name for name, port in told if port}

    @property
    def lacking(self) -> list[Path]:
        """Return the files of secrets that services read and that are not there."""
        read = {_secret(one) for service in self.services.values() for one in service.get("secrets", ())}
        return [path for name, path in self.secrets.items() if name in read and not path.exists()]

    def before(self, service: str) -> set[str]:
        """Return what has to run for a service to start."""
        return set(self.services.get(service, {}).get("depends_on", ()))

    def named(self, port: int) -> str:
        """Return the setting that says a port."""
        return next(
            (name for name, value in self.settings.items() if name.endswith("_PORT") and value == str(port)), ""
        )


def compose(files: Sequence[Path] = FILES, stream: str | None = None) -> Composition:
    """Have docker-compose read the files; a stream goes before what the settings say."""
    found = shutil.which("docker-compose")
    if found is None:
        raise NotComposed("docker-compose is missing; install it with: apt-get install docker-compose")
    settings = {**_lines(ROOT / ".env"), **os.environ, **({"STREAM": stream} if stream else {})}
    argv = [found, *(word for path in files for word in ("--file", str(path.resolve())))]
    done = subprocess.run([*argv, "config"], cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotComposed(f"docker-compose does not take the files: {done.stderr.strip().lstrip('.')}")
    made = yaml.safe_load(done.stdout)
    active = set(settings.get("COMPOSE_PROFILES", "").split(","))
    starts = {name: one for name, one in made["services"].items() if active.intersection(one.get("profiles") or active)}
    secrets = {name: Path(one["file"]) for name, one in made.get("secrets", {}).items()}
    return Composition(argv, settings, starts, secrets)


def _lines(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _published(port: str | Mapping[str, Any]) -> int:
    """Return the port on this machine of `127.0.0.1:8080:8080/tcp`, which newer versions take apart; 0 if it is any."""
    return int(f"0:{port}".split(":")[-2] if isinstance(port, str) else port.get("published", 0))


def _secret(one: str | Mapping[str, Any]) -> str:
    return one if isinstance(one, str) else str(one["source"])
