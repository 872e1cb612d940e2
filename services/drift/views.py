"""What may be seen of the state over HTTP: `/drift` and its parts as JSON, and `/metrics`. Nothing is changed there."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import faust
import msgspec

from services.drift.app import Drift

Part: TypeAlias = Callable[[], Any]


def add(drift: Drift) -> None:
    """Have the app answer for each part of its state."""
    parts: dict[str, Part] = {
        "core": lambda: [core.view() for core in drift.tables.running("summaries")],
        "alerts": lambda: msgspec.to_builtins(list(drift.judge.newest.values())),
        "hours": lambda: {kind: hours.view() for kind, hours in drift.tables.hours.items()},
        "commands": lambda: msgspec.to_builtins(drift.judge.told()),
        "delivery": drift.delivery.view,
        "lag": lambda: {"records": drift.health.lag, "seconds": drift.behind_s},
    }
    _page(drift.app, "/drift", lambda: {name: part() for name, part in parts.items()})
    for name, part in parts.items():
        _page(drift.app, f"/drift/{name}", part)
    _metrics(drift)


def _page(app: faust.App, path: str, part: Part) -> None:
    async def view(self: Any, request: Any) -> Any:  # noqa: ANN401 - Faust's view and aiohttp's request
        del request
        return self.bytes(msgspec.json.encode(part()), content_type="application/json")

    view.__name__ = view.__qualname__ = path.strip("/").replace("/", "_")
    get: Callable[..., Awaitable[Any]] = view
    app.page(path, name=view.__name__)(get)


def _metrics(drift: Drift) -> None:
    async def metrics(self: Any, request: Any) -> Any:  # noqa: ANN401 - Faust's view and aiohttp's request
        media, page = drift.health.metrics.page(request.headers.get("Accept", ""))
        return self.bytes(page, content_type=None, headers={"Content-Type": media})

    drift.app.page("/metrics", name="metrics")(metrics)
