"""An image's bill of materials, CycloneDX 1.5 as JSON, from what is installed in it and not from what was asked for.

Pure standard library; it runs while the image is built: `sbom.py NAME FOLDER …` prints it. It lists the Python packages
of these folders and, where dpkg knows them, Debian's.
"""

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

DPKG = Path("/var/lib/dpkg/status")


def bill(name: str, folders: list[str], dpkg: Path = DPKG) -> dict[str, Any]:
    """Return the document; the same installation gives the same bytes."""
    python = {_purl("pypi", found.name, found.version): _python(found) for found in distributions(path=folders)}
    debian = {component["purl"]: component for component in _debian(dpkg)}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "bom-ref": name}},
        "components": [found for _, found in sorted((python | debian).items())],
    }


def _python(found: Distribution) -> dict[str, Any]:
    purl = _purl("pypi", re.sub(r"[-_.]+", "-", found.name).lower(), found.version)
    component: dict[str, Any] = {"type": "library", "name": found.name, "version": found.version, "purl": purl}
    component["bom-ref"] = purl
    if said := _licence(found):
        component["licenses"] = [said]
    return component


def _licence(found: Distribution) -> dict[str, Any] | None:
    """Return what the metadata says: an SPDX expression, or the classifier's or free text's name."""
    said = found.metadata
    for expression in said.get_all("License-Expression") or ():
        return {"expression": expression}
    classified = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or () if line.startswith("License")]
    name = next(iter(classified), "".join(said.get_all("License") or ()).strip().partition("\n")[0])
    return {"license": {"name": name}} if name else None


def _debian(dpkg: Path) -> list[dict[str, Any]]:
    text = dpkg.read_text(encoding="utf-8") if dpkg.is_file() else ""
    fields = [
        dict(re.findall(r"^(Package|Version|Status): (.+)$", entry, re.MULTILINE)) for entry in text.split("\n\n")
    ]
    return [
        {"type": "library", "name": one["Package"], "version": one["Version"], "purl": purl, "bom-ref": purl}
        for one in fields
        if one.get("Status", "").endswith(" installed")
        for purl in [_purl("deb/debian", one["Package"], one["Version"])]
    ]


def _purl(kind: str, name: str, version: str) -> str:
    return f"pkg:{kind}/{name}@{version}"


if __name__ == "__main__":
    json.dump(bill(sys.argv[1], sys.argv[2:]), sys.stdout, indent=1)
