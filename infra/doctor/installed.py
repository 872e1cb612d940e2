"""What is installed: Python, the packages of both environments against their locks, Java, Triton's server, a GPU."""

import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from infra.doctor.findings import Finding, ok, warning, wrong

SETUP = "run ./infra/setup"
NAMED = 5
JAVA = 17
_TRIES = """import torch; print(torch.cuda.device_count(), torch.version.cuda)"""


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    says = ".".join(map(str, version))
    return ok("python", says) if version == (3, 11) else wrong("python", says, "Thalweg needs 3.11: install that")


def packages(check: str, lock: Path, installed: Mapping[str, str], needed: Iterable[str] | None) -> Finding:
    """Hold what is installed to a lock. Nothing `needed` may be missing: None is all that is locked."""
    if not lock.is_file():
        return warning(check, f"no lock at {lock}", "versions can't be compared: install from a checkout")
    pins = read_lock(lock)
    expected = set(pins) if needed is None else set(map(canonical, needed))
    missing = sorted(name for name in expected if name not in installed)
    other = sorted(name for name, pin in pins.items() if installed.get(name, pin) != pin)
    if not missing and not other:
        return ok(check, f"{len(pins.keys() & installed.keys())} packages, as in {lock.name}")
    said = [f"{name} is missing" for name in missing]
    said += [f"{name} is {installed[name]}, not {pins[name]}" for name in other]
    more = f", and {len(said) - NAMED} more" if len(said) > NAMED else ""
    return wrong(check, ", ".join(said[:NAMED]) + more, SETUP)


def read_lock(lock: Path) -> dict[str, str]:
    """Return the versions that a lock pins, by canonical name."""
    lines = lock.read_text().splitlines()
    pinned = (re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", line) for line in lines)
    return {canonical(found[1]): found[2] for found in pinned if found}


def present(folders: list[str] | None = None) -> dict[str, str]:
    """Return what is installed in these folders, or in ours, by canonical name."""
    found = metadata.distributions() if folders is None else metadata.distributions(path=folders)
    return {canonical(one.metadata["Name"]): one.version for one in found}


def needed_by_us() -> list[str]:
    """Return the packages that `thalweg` can't run without; not those of its extras."""
    said = metadata.requires("thalweg") or []
    return [found[0] for one in said if "extra ==" not in one if (found := re.match(r"[A-Za-z0-9._-]+", one))]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def java(*, wanted: bool) -> Finding:
    """Say which Java there is; only `--broker kafka` needs one."""
    path, do = shutil.which("java"), "apt-get install openjdk-17-jre-headless maven"
    if path is None:
        says = "none; only --broker kafka needs it"
        return wrong("java", says, do) if wanted else ok("java", f"{says} ({do})")
    said = _answer([path, "-version"])
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < JAVA:
        return warning("java", f"{path}: {said[:80] or 'says nothing'}", f"Apache Kafka needs {JAVA}: {do}")
    return ok("java", f"{found[1]}" + ("" if shutil.which("mvn") else "; no Maven, which fetches Apache Kafka once"))


def triton(server: Path, library: str = "libpython3.11.so.1.0") -> list[Finding]:
    """Say whether Triton's server could start from this folder."""
    binary = server / "bin" / "tritonserver"
    if not binary.is_file() or not (server / "backends" / "python").is_dir():
        return [wrong("triton", f"no server at {binary}", SETUP)]
    try:
        ctypes.CDLL(library)
    except OSError:
        return [wrong("triton", f"it needs {library}", "apt-get install libpython3.11")]
    return [ok("triton", "its server and Python backend are there")]


def gpu(driver: Path = Path("/proc/driver/nvidia/version")) -> Finding:
    """Say whether there is a GPU, and whether PyTorch can use it: asked in a process of its own."""
    if not driver.exists():
        return ok("gpu", "none; the trainer trains on the CPU")
    said = _answer([sys.executable, "-c", _TRIES], patience=60)
    found = re.fullmatch(r"(\d+) (\S+)", said)
    if found is None or found[1] == "0":
        do = "update the driver to one for PyTorch's CUDA, or see that this process may open /dev/nvidia*"
        return wrong(
            "gpu", f"there is a driver, and PyTorch can't use it: {said.splitlines()[-1][:80] if said else ''}", do
        )
    return ok("gpu", f"{found[1]} that PyTorch can use, CUDA {found[2]}")


def _answer(argv: list[str], patience: float = 20) -> str:
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.strip()
