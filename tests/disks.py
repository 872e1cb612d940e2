"""A disk that is soon full, for tests of what a service does then."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """Mount one; skip by name where that is not allowed."""
    mount = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here (root may): {mounted.stderr.strip()}")
    yield path
    subprocess.run([shutil.which("umount") or "umount", "-l", str(path)], check=True)
