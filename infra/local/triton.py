"""A real Triton server on this machine, from its wheel: the model repository, the process, and what it serves.

It lives in an environment of its own (`.venv-triton`, made by `infra/setup`), whose `python3` must come first on PATH:
the Python backend's stub takes its packages from there.
"""

import ctypes
import hashlib
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2 as asked
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from infra.local.brokers import free_ports
from infra.local.model_repository import write_models
from infra.local.processes import Children
from services.runtime.stream import Stream

ENVIRONMENT = Path(__file__).parents[2] / ".venv-triton"
PACKAGES = ENVIRONMENT / "lib" / "python3.11" / "site-packages"
SERVER = PACKAGES / "pytriton" / "tritonserver"
READY_S = 60


class TritonUnavailable(RuntimeError):  # noqa: N818 - a state that the operator can change, as the message says
    """The server can't be started or does not get ready."""


@dataclass(frozen=True)
class Triton:
    """A running server; `models` are those that it has loaded."""

    address: str
    version: str
    models: tuple[str, ...]


def start(
    children: Children, run_dir: Path, data: Path, stream: Stream, metrics: int | None = None, otlp: str = ""
) -> str:
    """Start the server with the stream's models; return its gRPC address. `wait_ready` says when they answer.

    Its own metrics are on the port `metrics`, or on any. Its spans of the requests that bring a context go to `otlp`,
    if there is such a receiver; they are JSON.
    """
    _check_python()
    home = (run_dir / "triton").resolve()
    models = write_models(home / "models", data.resolve(), stream)
    _link_backend(home / "backends" / "python")
    http, rpc, free = free_ports(3)
    ports = {"http": http, "grpc": rpc, "metrics": metrics or free}
    listen = [f"--{kind}-{what}" for kind, port in ports.items() for what in ("address=127.0.0.1", f"port={port}")]
    argv: list[str | Path] = [
        SERVER / "bin" / "tritonserver",
        f"--model-repository={home / 'models'}",
        f"--backend-directory={home / 'backends'}",
        "--model-control-mode=explicit",
        f"--backend-config=python,shm-region-prefix-name={_shared_memory(run_dir)}",
        *(f"--load-model={model}" for model in models),
        *listen,
        *_tracing(otlp),
    ]
    children.start("triton", argv, env=_environment(), before=partial(clean, run_dir))
    return f"127.0.0.1:{rpc}"


def _tracing(otlp: str) -> list[str]:
    if not otlp:
        return []
    exporter = {
        "url": f"{otlp.rstrip('/')}/v1/traces",
        "resource": "service.name=triton",
        "bsp_schedule_delay": "500",  # milliseconds
    }
    said = ["mode=opentelemetry", *(f"opentelemetry,{name}={value}" for name, value in exporter.items())]
    return [f"--trace-config={one}" for one in [*said, "level=TIMESTAMPS", "rate=0", "count=-1"]]


def clean(run_dir: Path) -> None:
    """Remove the shared memory that a server of this run left when it was killed."""
    for region in Path("/dev/shm").glob(f"{_shared_memory(run_dir)}*"):  # noqa: S108 - where Linux keeps shared memory
        region.unlink(missing_ok=True)


def _shared_memory(run_dir: Path) -> str:
    return f"thalweg-{hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:12]}-"


def wait_ready(address: str, children: Children) -> Triton:
    """Return once the server and its models answer; ChildDied if it ended, TritonUnavailable after a minute.

    Asked without tritonclient's client: when Ctrl-C meets that half made, it prints a traceback at its end.
    """
    deadline = time.monotonic() + READY_S
    with grpc.insecure_channel(address) as channel:
        server = GRPCInferenceServiceStub(channel)
        while not _ready(server):
            children.check()
            if time.monotonic() > deadline:
                raise TritonUnavailable(f"Triton is not ready after {READY_S} s; see {children.logs / 'triton.log'}")
            time.sleep(0.1)
        version = server.ServerMetadata(asked.ServerMetadataRequest()).version
        models = server.RepositoryIndex(asked.RepositoryIndexRequest()).models
    return Triton(address, version, tuple(sorted(model.name for model in models if model.state == "READY")))


def _ready(server: GRPCInferenceServiceStub) -> bool:
    try:
        return bool(server.ServerReady(asked.ServerReadyRequest()).ready)
    except grpc.RpcError:
        return False


def _link_backend(folder: Path) -> None:
    """Lay out the Python backend as the server expects it: the library, its helper and the stub of this Python."""
    folder.mkdir(parents=True, exist_ok=True)
    stub = SERVER / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    for file in [*(SERVER / "backends" / "python").iterdir(), stub]:
        link = folder / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)


def _environment() -> dict[str, str]:
    path = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": str(PACKAGES / "nvidia_pytriton.libs")}


def _check_python() -> None:
    if not SERVER.is_dir():
        raise TritonUnavailable(f"{ENVIRONMENT} is missing or incomplete; run ./infra/setup")
    try:
        ctypes.CDLL("libpython3.11.so.1.0")
    except OSError as error:
        raise TritonUnavailable(
            "Triton needs libpython3.11.so; install it with: apt-get install libpython3.11"
        ) from error
