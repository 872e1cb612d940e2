"""What is said of containers as they start, die and come back: a fold of the engine's events into lines."""

from dataclasses import dataclass, field

from infra.compose.engine import Event
from infra.local.supervision import DEATHS, WITHIN_S


@dataclass
class Seen:
    """What is known of one container."""

    since: float = 0.0  # its last start, until it is healthy
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
                seen.since = event.at
                return f"{event.service} starts{' again' if seen.deaths else ''}"
            case "healthy":
                lasted, seen.since = event.at - seen.since, 0.0
                return f"{event.service} is healthy {f'after {lasted:.0f} s' if lasted < event.at else 'again'}"
            case "unhealthy":
                return f"{event.service} fails its health check"
            case "die":
                if event.exit_code == 0:
                    return f"{event.service} has ended well"
                seen.deaths = [*seen.deaths, event.at][-DEATHS:]
                return f"{event.service} exited with code {event.exit_code}"
        words = {"oom": "ran out of memory", "pause": "is paused", "unpause": "goes on"}
        return f"{event.service} {words[event.what]}"

    def hopeless(self, service: str) -> bool:
        """Whether a container dies over and over: it has a fault that a restart does not heal."""
        deaths = self._seen[service].deaths
        return len(deaths) == DEATHS and deaths[-1] - deaths[0] < WITHIN_S
