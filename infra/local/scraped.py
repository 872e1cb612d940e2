"""What Prometheus finds a run by: a file of targets, which its configuration (infra/prometheus/prometheus.yml) names.

Each is labelled by its `service` and `stream`; `instance` is the name that the launcher has for it.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec


def tell(run_dir: Path, stream: str, answering: Mapping[str, str], triton: str) -> Path:
    """Write the file of a stream's run: where each service answers `/metrics`, by name, and Triton's address."""
    found = {name: url.partition("://") for name, url in answering.items()} | {"triton": ("http", "", triton)}
    targets = [
        {
            "targets": [address],
            "labels": {"service": name.partition("-")[0], "instance": name, "stream": stream}
            | ({"__scheme__": scheme} if scheme != "http" else {}),
        }
        for name, (scheme, _, address) in found.items()
    ]
    file = place(run_dir, stream)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(targets), indent=2) + b"\n")
    draft.replace(file)  # whole or not at all: it is read whenever it changes
    return file


def place(run_dir: Path, stream: str) -> Path:
    """Return where the file of a stream stands: beside those of the folder's other streams."""
    return run_dir / "prometheus" / f"{stream}.json"
