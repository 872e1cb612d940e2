"""The flights stream with fields that say who somebody is: a folder of schemas as an operator would write them."""

import json
import shutil
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[1] / "schemas"
PEOPLE = {"passenger": "drop", "email": "hash", "phone": "tokenise"}  # fields that are added to an event
TEXT = {"type": ["string", "null"], "maxLength": 64}


def marked_schemas(folder: Path, event: dict[str, Any], label: dict[str, Any] | None = None) -> Path:
    """Copy the flights stream into `folder` and mark these fields, which are made where there are none."""
    shutil.copytree(SHIPPED / "flights", folder / "flights")
    for file, marks in (("event.json", event), ("label.json", label or {})):
        path = folder / "flights" / file
        schema = json.loads(path.read_text())
        for name, mark in marks.items():
            schema["properties"].setdefault(name, dict(TEXT))["pii"] = mark
        path.write_text(json.dumps(schema))
    return folder
