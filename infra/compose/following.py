"""What is said of containers as they start, die and come back: a fold of the engine's events into lines."""

from dataclasses import dataclass, field

from infra.compose.engine import Event
from infra.local.supervision import DEATHS, WITHIN_S


@dataclass
class Seen:
    """What is known of one container."""

    began: float | None = None  # its last start, in seconds since 1970, until it is healthy
    deaths: list[float] = field(default_factory=list)  # the last DEATHS


class Following:
    """Folds events, each once and in order."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def tell(self, event: Event) -> str:
        """Return what an event means."""
        seen = self._seen.setdefault(event.service, Seen())
        match event.what:
            case "start":
                seen.began = event.at
                return f"{event.service} starts{' again' if seen.deaths else ''}"
            case "healthy":
                when = "again" if seen.began is None else f"after {event.at - seen.began:.0f} s"
                seen.began = None
                return f"{event.service} is healthy {when}"
            case "unhealthy":
                return f"{event.service} fails its health check"
            case "die":
                if event.exit_code == 0:
                    return f"{event.service} has ended well"
                seen.deaths = [*seen.deaths, event.at][-DEATHS:]
                return f"{event.service} exited with code {event.exit_code}"
        words = {"oom": "ran out of memory", "pause": "is paused", "unpause": "goes on"}
        return f"{event.service} {words[event.what]}"

    def before(self, service: str) -> float | None:
        """Return when it died before its last death: what it said since then, it said in its last life."""
        return next(iter(self._seen[service].deaths[-2:-1]), None)

    def hopeless(self, service: str) -> bool:
        """Whether a container dies over and over: it has a fault that a restart does not heal."""
        deaths = self._seen[service].deaths
        return len(deaths) == DEATHS and deaths[-1] - deaths[0] < WITHIN_S
