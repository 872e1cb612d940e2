"""What OTLP's two encodings come to: ids, times and values of one form, cut where a sender may make them large."""

import base64
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from services.console.span import KINDS, STATUSES, Kind, Status

TEXT, ATTRIBUTES, EVENTS, LINKS, DEEP = 4096, 128, 128, 1024, 4  # characters, and how many of each are kept
LATEST = 2**63 - 1
Attributes: TypeAlias = dict[str, Any]


class Malformed(ValueError):  # noqa: N818 - said of a body
    """A body is not what its type says."""


def read_id(found: bytes, size: int) -> str:
    if len(found) != size or not any(found):
        raise ValueError(found)
    return found.hex()


def read_time(found: int) -> int:
    if not 0 <= found <= LATEST:
        raise ValueError(found)
    return found


def cut(found: str) -> str:
    return found if len(found) <= TEXT else found[: TEXT - 1] + "…"


def read_number(found: float) -> float | str:
    if math.isfinite(found):
        return found
    return "NaN" if math.isnan(found) else "Infinity" if found > 0 else "-Infinity"


def read_base64(found: bytes) -> str:
    return cut(base64.b64encode(found).decode())


def kind(number: int) -> Kind:
    return KINDS[number] if 0 <= number < len(KINDS) else KINDS[0]


def status(number: int) -> Status:
    return STATUSES[number] if 0 <= number < len(STATUSES) else STATUSES[0]


def service_of(attributes: Mapping[str, Any]) -> str:
    return cut(str(attributes.get("service.name") or "unknown"))
