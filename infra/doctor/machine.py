"""The machine: room on its disks and in its memory, files that may be open, and the ports that a run likes to have."""

import resource
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

from infra.doctor.findings import Finding, ok, warning, wrong

GIB = 1 << 30
DISK_WRONG, DISK_WARNING = GIB // 2, 5 * GIB
SHARED_WRONG, SHARED_WARNING = GIB // 256, GIB // 16  # a region of Triton's Python backend is a megabyte and grows
MEMORY_WRONG, MEMORY_WARNING = GIB, 4 * GIB  # a whole run of one stream takes about three
FILES = 4096  # a broker client holds a socket for each broker, a join a file for each segment
SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory


def disk(check: str, folder: Path, bad: int = DISK_WRONG, low: int = DISK_WARNING) -> Finding:
    """Say how much room there is where `folder` is, or will be."""
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    says = f"{_size(free)} free at {there}"
    if free < bad:
        return wrong(check, says, f"services stop writing when it is full: make {_size(low)} free, or move it")
    if free < low:
        return warning(check, says, f"a day's run may need more than {_size(low)}")
    return ok(check, says)


def memory(meminfo: str, limit: int | None, *, up: bool) -> Finding:
    """Say how much memory there is: what the kernel calls available, or what a control group leaves of it.

    A run that is up has its share already, so that little is left says less.
    """
    available = _meminfo(meminfo, "MemAvailable")
    free = available if limit is None else min(available, limit)
    says = f"{_size(free)} available" + (", by the limit of this container" if free != available else "")
    if free < (MEMORY_WRONG // 4 if up else MEMORY_WRONG):
        return wrong("memory", says, "the kernel will end a service: run less here, or give it more")
    if free < (MEMORY_WRONG if up else MEMORY_WARNING):
        return warning("memory", says, f"a whole run takes about 3 GiB: have {_size(MEMORY_WARNING)} before it starts")
    return ok("memory", says)


def read_memory(*, up: bool) -> Finding:
    return memory(Path("/proc/meminfo").read_text(), _control_group(), up=up)


def _meminfo(text: str, name: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{name}:"))


def _control_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return what the control group leaves, None where it sets no limit."""
    try:
        most, now = (root / "memory.max").read_text().strip(), (root / "memory.current").read_text()
    except OSError:
        return None
    return None if most == "max" else max(int(most) - int(now), 0)


def open_files(limit: int | None = None) -> Finding:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
    if 0 <= soft < FILES:
        return warning("open files", f"a process may open {soft}", f"raise it to {FILES}: ulimit -n {FILES}")
    return ok("open files", "a process may open as many as it likes" if soft < 0 else f"a process may open {soft}")


def ports(wanted: Iterable[tuple[str, int]]) -> list[Finding]:
    """Say of each port whether it is free; only while nothing of ours is up."""
    return [_port(name, number) for name, number in wanted]


def _port(name: str, number: int) -> Finding:
    check = f"port {number}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            do = f"{name} takes another one then, and prints it; end what has {number} if that matters"
            return warning(check, f"not to be had: {error.strerror}", do)
    return ok(check, f"free for {name}")


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB // 2 else f"{size / (1 << 20):.0f} MiB"
