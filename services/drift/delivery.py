"""Alerts on their way to people: a webhook, which gets each record as it is, and Alertmanager, which gets what stands.

Nothing waits for a receiver. What is due is kept in order, at most `MOST` records; a receiver that fails is tried again
after longer and longer, and a record that it does not take for too long is given up. A webhook may get one twice, after
a crash or where its answer was lost: `id` and `number` say so. One that answers 4xx does not want it.
"""

import datetime as dt
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from services.drift.settings import DriftSettings
from services.runtime.alerts import Alert

log = logging.getLogger(__name__)
MOST = 1000
ANSWER_S = 5.0
FIRST_S, LONGEST_S = 0.5, 60.0
STANDS = 4  # times `resend_s`: so long Alertmanager takes what it was told of for standing
AGAIN = (408, 425, 429)  # of 4xx, those that may be different later


class Waiting(msgspec.Struct, frozen=True):
    """An alert that is due, and its offset in `alerts`."""

    offset: int
    alert: Alert


class Webhook:
    """Posts each record as JSON, in order. `due` does what is due now, and returns soon."""

    def __init__(self, client: httpx.AsyncClient, settings: DriftSettings) -> None:
        self._client, self._settings = client, settings
        self._waiting: deque[Waiting] = deque()
        self._pause_s, self._not_before, self._since = 0.0, 0.0, 0.0
        self.delivered, self.given_up = 0, 0
        self._told = 0

    @property
    def told(self) -> int:
        """The offset in `alerts` before which everything is delivered, or given up."""
        return self._waiting[0].offset if self._waiting else self._told

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, offset: int, alert: Alert) -> None:
        if self._settings.webhook and not alert.silenced:
            self._waiting.append(Waiting(offset, alert))
        self._told = max(self._told, offset + 1)
        while len(self._waiting) > MOST:
            self._give_up(f"more than {MOST} wait")

    async def due(self) -> None:
        now = time.monotonic()
        while self._waiting and now >= self._not_before:
            failure = await post(self._client, self._settings.webhook, msgspec.json.encode(self._waiting[0].alert))
            now = time.monotonic()
            if failure is None:
                self._waiting.popleft()
                self.delivered += 1
                self._pause_s = 0.0
            elif not failure.again or (self._pause_s and now - self._since > self._settings.give_up_s):
                self._give_up(failure.why)
                self._pause_s = 0.0
            else:
                self._back_off(failure.why, now)

    def _back_off(self, why: str, now: float) -> None:
        if not self._pause_s:
            self._since = now
            log.warning("the webhook takes no alert, %d wait: %s", len(self._waiting), why)
        self._pause_s = min(LONGEST_S, 2 * self._pause_s or FIRST_S)
        self._not_before = now + self._pause_s

    def _give_up(self, why: str) -> None:
        lost = self._waiting.popleft().alert
        self.given_up += 1
        log.error("the webhook never got %s/%d (it stays in the log): %s", lost.id, lost.number, why)


class Alertmanager:
    """Tells Alertmanager what stands, again and again, and once more what has been resolved."""

    def __init__(self, client: httpx.AsyncClient, settings: DriftSettings) -> None:
        self._client, self._settings = client, settings
        self._resolved: deque[Alert] = deque(maxlen=MOST)
        self._next, self._pause_s = 0.0, 0.0
        self.delivered = 0

    def add(self, alert: Alert) -> None:
        if not self._settings.alertmanager or alert.silenced:
            return
        if alert.event == "resolved":
            self._resolved.append(alert)
        self._next = min(self._next, time.monotonic() + self._pause_s)

    async def due(self, standing: Sequence[Alert]) -> None:
        now = time.monotonic()
        if not self._settings.alertmanager or now < self._next:
            return
        resolved = list(self._resolved)
        failure = await self._tell([*standing, *resolved])
        if failure is None:
            self._pause_s = 0.0
            self._next = now + self._settings.resend_s
            for _ in resolved:
                self._resolved.popleft()
            return
        if not self._pause_s:
            log.warning("Alertmanager takes no alerts: %s", failure.why)
        self._pause_s = min(LONGEST_S, 2 * self._pause_s or FIRST_S)
        self._next = now + self._pause_s

    async def _tell(self, alerts: Sequence[Alert]) -> "Failure | None":
        if not alerts:
            return None
        body = [translated(alert, self._settings, dt.datetime.now(dt.UTC)) for alert in alerts]
        url = f"{self._settings.alertmanager.rstrip('/')}/api/v2/alerts"
        failure = await post(self._client, url, msgspec.json.encode(body))
        self.delivered += len(alerts) if failure is None else 0
        return failure


class Delivery:
    """Both ways out."""

    def __init__(self, client: httpx.AsyncClient, settings: DriftSettings) -> None:
        self._webhook, self._alertmanager = Webhook(client, settings), Alertmanager(client, settings)

    @property
    def told(self) -> int:
        return self._webhook.told

    def add(self, offset: int, alert: Alert) -> None:
        self._webhook.add(offset, alert)
        self._alertmanager.add(alert)

    async def due(self, standing: Sequence[Alert]) -> None:
        await self._webhook.due()
        await self._alertmanager.due(standing)

    def view(self) -> dict[str, int]:
        return {
            "webhook_delivered": self._webhook.delivered,
            "webhook_given_up": self._webhook.given_up,
            "webhook_waiting": self._webhook.waiting,
            "alertmanager_told": self._alertmanager.delivered,
        }


def translated(alert: Alert, settings: DriftSettings, now: dt.datetime) -> dict[str, Any]:
    """Return an alert as Alertmanager takes it. Its labels name it: with another severity the former one lapses."""
    began = dt.datetime.fromtimestamp(alert.since.time / 1e6, dt.UTC)
    stands = dt.timedelta(seconds=STANDS * settings.resend_s)
    labels = {"alertname": "ThalwegDrift", "id": alert.id, "stream": settings.stream, "kind": alert.kind}
    labels |= {"subject": alert.subject, "severity": alert.severity} | ({"slice": alert.slice} if alert.slice else {})
    told = {"summary": alert.reason, "strength": f"{alert.statistic} = {alert.strength:.6g}"}
    told |= {name: ", ".join(found.name for found in places) for name, places in _explained(alert) if places}
    ends = now if alert.event == "resolved" else now + stands
    return {
        "labels": labels,
        "annotations": told,
        "startsAt": min(began, now - dt.timedelta(seconds=1)).isoformat(),
        "endsAt": ends.isoformat(),
    }


def _explained(alert: Alert) -> list[tuple[str, list[Any]]]:
    return [("features", list(alert.features)), ("slices", list(alert.slices))]


class Failure(msgspec.Struct, frozen=True):
    """Why a receiver took nothing, and whether it may later."""

    why: str
    again: bool


async def post(client: httpx.AsyncClient, url: str, body: bytes) -> Failure | None:
    """Post JSON; return why it was not taken. The URL may hold a password, so its host alone is ever named."""
    try:
        answer = await client.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=ANSWER_S)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Failure(f"{_host(url)}: {type(error).__name__}", again=not isinstance(error, httpx.InvalidURL))
    if answer.is_success:
        return None
    final = answer.is_client_error and answer.status_code not in AGAIN
    return Failure(f"{_host(url)} answered {answer.status_code}", again=not final)


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "a URL that is none"
