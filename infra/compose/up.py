"""`thalweg up --runtime docker`: a stack that docker-compose starts, followed and stopped through the engine's SDK.

A container that dies is named, with its last lines; that it starts again is the engine's doing, by its restart policy.
"""

import os
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from queue import Empty
from typing import NoReturn

import msgspec

from infra.compose.checks import check
from infra.compose.composition import ROOT, Composition
from infra.compose.engine import Container, EngineError, Event, Project
from infra.compose.following import Following
from infra.images.first_key import FIRST
from infra.local.processes import Child, ChildDied
from infra.local.stack import Running, claim
from infra.local.status import ask
from infra.local.supervision import DEATHS, WITHIN_S
from services.console.access import Tokens

HEALTHY_S = 180.0  # once everything was started
READY_S = 120.0  # once everything is healthy
OUTSIDE, DOOR, PAGE = 9094, 8080, 8090  # ports in the containers: Kafka's for this machine, ingestion's, the console's
TOKENS, KEY = "/data/console/tokens.json", f"/data/ingestion/{FIRST}"
STOPS_AT_ONCE = 8


def up(composition: Composition, run_dir: Path) -> NoReturn:
    """Run the stack until KeyboardInterrupt or an error, then stop it; what it keeps stays in its volumes."""
    with closing(Project(composition.project)) as project:
        check(composition, project)
        with closing(claim(run_dir, composition.stream)):
            stack = Stack(composition, project, run_dir / composition.stream)
            try:
                stack.start()
                while True:
                    stack.hear(1.0)
            finally:
                stack.stop()


class Stack:
    """The containers of a composition, from docker-compose's `up` to the last one's end."""

    def __init__(self, composition: Composition, project: Project, folder: Path) -> None:
        self._composition, self._project, self._folder = composition, project, folder
        self._following = Following()
        self._running = folder / "running.json"
        self._up = False

    def start(self) -> None:
        """Return when everything is healthy and ready, and was said to be up."""
        new = self._project.volume("data") is None
        self._told = self._project.events()
        argv = [*self._composition.argv, "up", "--detach"]
        say(f"starting {len(self._composition.services)} containers of {self._project.name}")
        child = Child("docker-compose", argv, logs=self._folder / "logs", env=self._composition.settings, cwd=ROOT)
        try:
            while child.alive:
                self.hear(0.2)
        finally:
            child.stop()
        if child.exit_code:
            raise ChildDied(child.death)
        wait_well(self._project, self.hear)
        self._up = True
        self._wait_ready()
        self._say_up(self._tell_commands(), new=new)

    def _wait_ready(self) -> None:
        """Wait until an event is answered as fast as it ever will be; not for who can't be asked from here."""
        deadline = time.monotonic() + READY_S
        while waiting := self._waiting():
            if time.monotonic() > deadline:
                say(f"not ready yet, which thalweg status says more about: {', '.join(waiting)}")
                return
            self.hear(1.0)

    def _waiting(self) -> list[str]:
        reports = {name: ask(url) for name, url in self._tell_commands().services.items()}
        return [name for name, report in reports.items() if report is not None and not report.ready]

    def hear(self, seconds: float) -> None:
        """Say what the engine tells next, if it does within a while."""
        try:
            event = self._told.get(timeout=seconds)
        except Empty:
            return
        if event is None:
            raise EngineError("the Docker engine has ended, or was started anew; start the stack again when it is back")
        say(self._following.tell(event))
        if event.what == "die" and event.exit_code:
            self._bury(event)
        elif event.what == "start" and self._up:
            self._tell_commands()

    def _bury(self, event: Event) -> None:
        if last := self._project.log(event.service, since=self._following.before(event.service), until=event.at):
            print(f"{event.service} said last:\n{last}", flush=True)
        if self._following.hopeless(event.service):
            raise ChildDied(f"{DEATHS} deaths of {event.service} within {WITHIN_S:.0f} s: a restart does not heal it")

    def _tell_commands(self) -> Running:
        """Leave for other commands where the stack answers: it may be elsewhere after a container's restart."""
        containers = self._project.containers()
        told = running(containers, self._data())
        self._running.parent.mkdir(parents=True, exist_ok=True)
        draft = self._running.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(told))
        draft.replace(self._running)
        return told

    def _data(self) -> Path:
        """Return where the services' volume is for whoever may look into it; root may. Else an empty place."""
        volume = self._project.volume("data")
        return Path(volume) if volume and os.access(volume, os.R_OK | os.X_OK) else self._folder / "data"

    def _say_up(self, told: Running, *, new: bool) -> None:
        """Say where it answers; with the console's acting token if that was made just now: it is shown once."""
        tokens = msgspec.json.decode(self._project.read("console", TOKENS), type=Tokens) if new else None
        stream, ingestion = self._composition.stream, self._project.containers()["ingestion"]
        print(
            f"{stream} is up: broker {told.broker}, POST to {told.ingestion}/v1/streams/{stream}/events with the key of"
            f" docker exec {ingestion.id[:12]} cat {KEY}; Ctrl-C stops it\n"
            f"console: {told.console}{f'/#token={tokens.acting}' if tokens else ''}",
            flush=True,
        )

    def stop(self) -> None:
        """Stop each container once nothing needs it any more, and remove them and their network."""
        self._running.unlink(missing_ok=True)
        running = {name for name, one in self._project.containers().items() if one.status not in ("exited", "created")}
        say(f"stopping {len(running)} containers")
        with ThreadPoolExecutor(STOPS_AT_ONCE) as pool:
            while running:
                needed = set().union(*map(self._composition.before, running))
                ending = {pool.submit(self._project.stop, name): name for name in sorted(running - needed)}
                for ended in as_completed(ending):
                    ended.result()
                    say(f"{ending[ended]} has stopped")
                running &= needed
        self._project.remove()
        command = " ".join(["docker-compose", *self._composition.argv[1:], "--project-name", self._project.name])
        say(f"what it keeps stays, for the next `up`; to remove that as well: {command} down --volumes")


def running(containers: Mapping[str, Container], data: Path) -> Running:
    """Return what other commands are told. What has no port on this machine answers on the engine's own network."""

    def place(told: str) -> str:
        name, port = told.split(":")
        one = containers[name]
        return one.ports.get(int(port)) or f"{one.address or name}:{port}"

    listed = containers["console"].environment["THALWEG_CONSOLE_SERVICES"].split(",")
    answering = {
        name: f"http://{place(url.removeprefix('http://'))}" for name, url in (one.split("=") for one in listed)
    }
    return Running(
        pid=os.getpid(),
        broker=",".join(one.ports[OUTSIDE] for one in containers.values() if OUTSIDE in one.ports),
        ingestion=f"http://{place(f'ingestion:{DOOR}')}",
        data=str(data),
        services=answering,
        console=f"http://{place(f'console:{PAGE}')}",
        triton=place(containers["inference"].environment["THALWEG_INFERENCE_TRITON"]),
    )


def wait_well(project: Project, meanwhile: Callable[[float], None], gone: Collection[str] = ()) -> None:
    """Return when every container that is not gone is healthy, or has ended well; EngineError after a while."""
    deadline = time.monotonic() + HEALTHY_S
    while ill := sorted(name for name, one in project.containers().items() if not one.well and name not in gone):
        if time.monotonic() > deadline:
            line = ", ".join(ill)
            logs = "\n".join(f"{name}:\n{project.log(name)}" for name in ill)
            raise EngineError(f"not healthy after {HEALTHY_S:.0f} s: {line}\n{logs}")
        meanwhile(2.0)
    say(f"all {len(project.containers()) - len(gone)} containers are well")


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
