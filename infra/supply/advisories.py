"""Known faults of what is installed, from a folder of advisories in OSV's format (ossf.github.io/osv-schema).

No advisory is fetched: the folder is what the operator has brought, such as a copy of PyPA's advisory database or of
OSV's export for PyPI. Without one nothing is known, and nothing is said to be well.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from infra.doctor.installed import canonical


def concerning(folder: Path, installed: Mapping[str, str], accepted: Mapping[str, str]) -> list[str]:
    """Return each advisory that an installed version falls under and that is not accepted, with what it says."""
    found = []
    for told in _read(folder):
        for one in told.get("affected", []):
            package = one.get("package", {})
            name = canonical(package.get("name", ""))
            known = package.get("ecosystem") == "PyPI" and name in installed and told["id"] not in accepted
            if known and affected(installed[name], one):
                found.append(f"{told['id']}: {name} {installed[name]}: {told.get('summary', 'see the advisory')}")
    return sorted(set(found))


def _read(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        if not told.get("withdrawn"):
            yield told


def affected(version: str, told: Mapping[str, Any]) -> bool:
    """Whether a version is listed, or lies in a range: introduced, neither fixed nor after the last affected."""
    if version in told.get("versions", []):
        return True
    ranges = [one["events"] for one in told.get("ranges", []) if one.get("type") == "ECOSYSTEM"]
    return any(_within(Version(version), events) for events in ranges)


def _within(version: Version, events: list[dict[str, str]]) -> bool:
    inside = False
    for event in sorted(events, key=_place):
        if "introduced" in event and version >= _version(event["introduced"]):
            inside = True
        if "fixed" in event and version >= _version(event["fixed"]):
            inside = False
        if "last_affected" in event and version > _version(event["last_affected"]):
            inside = False
    return inside


def _place(event: Mapping[str, str]) -> tuple[Version, bool]:
    ((kind, text),) = [(kind, text) for kind, text in event.items() if kind in ("introduced", "fixed", "last_affected")]
    return _version(text), kind == "last_affected"


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")
