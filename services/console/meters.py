"""What the console tells of itself: the spans that it took, and those that it could not keep."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.console.settings import SERVICE, ConsoleSettings
from services.console.store import Store
from services.runtime.metrics import Metrics
from services.runtime.vitals import tell_who


class Meters:
    """The page of metrics, for whoever scrapes; it needs no token, as those of the other services do not."""

    def __init__(self, settings: ConsoleSettings, store: Store) -> None:
        self._metrics = metrics = Metrics()
        metrics.of_process()
        tell_who(metrics, SERVICE, settings)
        said = "Spans that were taken."
        metrics.told("thalweg_spans_taken", said, lambda: {(): float(store.taken)}, kind="counter")
        said = "Spans that were taken and could not be written."
        metrics.told("thalweg_spans_lost", said, lambda: {(): float(store.lost)}, kind="counter")

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.page, methods=["GET"])]

    async def page(self, request: Request) -> Response:
        media, page = self._metrics.page(request.headers.get("accept", ""))
        return Response(page, 200, {"Content-Type": media, "Cache-Control": "no-store"})
