"""What is looked at before a stack starts: its secrets, its images, its ports."""

import socket

from infra.compose.composition import Composition
from infra.compose.engine import Project


def check(composition: Composition, project: Project) -> None:
    """Raise ValueError, which says what to do, for what docker-compose would say late, or in riddles."""
    if secrets := composition.lacking:
        raise ValueError(f"{secrets[0]} is missing; make the stack's secrets with: infra/compose/secrets")
    ours = [image for image in composition.images if image.startswith("thalweg/")]  # all others it can pull
    if lacking := project.lacks(ours):
        raise ValueError(f"the engine has no {', '.join(lacking)}; build images with: {_builder(lacking)}")
    held = {place for one in project.containers().values() if one.status == "running" for place in one.ports.values()}
    for port, service in composition.ports.items():
        if f"127.0.0.1:{port}" not in held and _taken(port):
            setting = composition.named(port)
            raise ValueError(
                f"port {port}, of {service}, is taken; name another in .env or the environment: {setting}=…"
            )


def _builder(images: list[str]) -> str:
    standins = [image for image in images if image.startswith("thalweg/standins")]
    made = "infra/images/build" if len(standins) < len(images) else ""
    every = "--all " if any(image.startswith("thalweg/standins-all:") for image in standins) else ""
    more = f"infra/images/standins/build {every}{standins[0].partition(':')[2]}" if standins else ""
    return " && ".join(filter(None, [made, more]))


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
