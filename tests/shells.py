"""A stack of shells: its containers are of this machine's own `sh`, in their own project, under the real command."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import docker

from infra.compose.composition import ROOT
from infra.local.brokers import free_ports
from tests.kept import HEARS_SIGINT

SHELL = ("sh", "sleep", "cat", "mkdir")
STACK = """
x-one: &one
  image: ${TINY}
  restart: unless-stopped
services:
  kafka:
    <<: *one
    command: [sh, -c, "trap 'exit 0' TERM; sleep 1; mkdir /well; while :; do sleep 0.1; done"]
    ports: ["127.0.0.1:${KAFKA_PORT}:9094"]
    healthcheck: {test: [CMD, sh, -c, "cd /well"], interval: 1s}
  prepare:
    <<: *one
    restart: "no"
    environment: {TOKENS: '{"reading": "r", "acting": "shown-once", "key": "k"}'}
    command: [sh, -c, 'mkdir -p /data/console; echo "$$TOKENS" > /data/console/tokens.json']
    volumes: ["data:/data"]
  console: &waits
    <<: *one
    command: [sh, -c, "trap 'exit 0' TERM; echo was here; while :; do sleep 0.1; done"]
    environment:
      THALWEG_CONSOLE_SERVICES: ingestion=http://ingestion:8080,inference=http://inference:9100
      THALWEG_INFERENCE_TRITON: inference:8001
    ports: ["127.0.0.1:${CONSOLE_PORT}:8090"]
    volumes: ["data:/data"]
    depends_on: {kafka: {condition: service_healthy}, prepare: {condition: service_completed_successfully}}
  ingestion:
    <<: *waits
    ports: ["127.0.0.1:${INGESTION_PORT}:8080"]
  inference:
    <<: *waits
    ports: []
volumes: {data: {}}
"""


class Small:
    """A stack of shells in a project of its own."""

    def __init__(self, folder: Path, engine: docker.DockerClient) -> None:
        self.name, self.run_dir, self.output = f"small-{os.getpid()}", folder / "run", folder / "output.txt"
        self.image = f"small-shell:{os.getpid()}"
        engine.api.import_image_from_data(shell(), repository="small-shell", tag=str(os.getpid()))
        self.file = folder / "compose.yaml"
        self.file.write_text(STACK)
        self.ports = dict(zip(("INGESTION", "CONSOLE", "KAFKA"), free_ports(3), strict=True))
        ports = {f"{name}_PORT": str(port) for name, port in self.ports.items()}
        self.environment = {**os.environ, **ports, "COMPOSE_PROJECT_NAME": self.name, "TINY": self.image}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *over: Path) -> None:
        files = [word for path in (self.file, *over) for word in ("--compose-file", str(path))]
        told = ["--runtime", "docker", *files, "--run-dir", str(self.run_dir)]
        argv = [sys.executable, "-c", HEARS_SIGINT, sys.executable, "-m", "infra.cli", "up", *told]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                argv, stdout=output, stderr=subprocess.STDOUT, env=self.environment, cwd=ROOT
            )

    def end(self, number: int = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_said(self, *patterns: str) -> None:
        """Wait until they were all said, in this order."""
        end = time.monotonic() + 90
        while not re.search(".*".join(patterns), self.said, re.DOTALL):
            assert self.process is not None
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, f"no {patterns}:\n{self.said}"
            time.sleep(0.1)


def shell() -> bytes:
    """Return what a shell of this machine needs, as a file system."""
    programs = [str(shutil.which(name)) for name in SHELL]
    linked = subprocess.run([str(shutil.which("ldd")), *programs], capture_output=True, text=True, check=True).stdout
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as tar:
        for program in programs:
            tar.add(program, f"bin/{Path(program).name}")
        for library in sorted(set(re.findall(r"(/\S+) \(0x", linked))):
            tar.add(library)
    return packed.getvalue()
