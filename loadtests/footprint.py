"""What the processes that we started hold: resident bytes, each with its children's, from /proc."""

import os
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
Process = tuple[int, str]  # process id and name


def footprint() -> dict[Process, int]:
    """Return the resident bytes of each session that a child of ours leads: the launcher gives each its own."""
    found: dict[int, int] = {}
    leaders: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent, session, resident = _stat(folder)
            if parent == os.getpid() and session == int(folder.name):
                leaders[session] = _name(folder)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        found[session] = found.get(session, 0) + resident
    return {(pid, name): found[pid] for pid, name in leaders.items()}


def _stat(folder: Path) -> tuple[int, int, int]:
    """Return parent, session and resident bytes; the name before them may hold spaces and brackets."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), int(fields[3]), int(fields[21]) * PAGE


def _name(folder: Path) -> str:
    words = [word for word in (folder / "cmdline").read_bytes().decode(errors="replace").split("\0") if word]
    module = [word.removeprefix("services.") for word in words if word.startswith("services.")]
    return module[0] if module else Path(words[0]).name
