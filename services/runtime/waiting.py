"""Waiting that says so: in the log when it begins, at growing intervals, and when it is over; and to whoever asks."""

import logging

from services.runtime.clock import Clock

log = logging.getLogger(__name__)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
FIRST_WORD_S, LONGEST_SILENCE_S = 2.0, 60.0
NEWS_S = 1.0  # another reason is said at once, but not more often than this


class Wait:
    """One thing that may have to be waited for. One thread writes it; `why` and `since` may be read by any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.why: str | None = None  # None while nothing is waited for
        self.since = 0.0
        self._pause_s = 0.0
        self._said: tuple[str, float] = ("", 0.0)

    def note(self, why: str, since: float | None = None) -> None:
        """Wait for this, from now on, or since an attempt began that has failed now, or still."""
        now = self._clock.now()
        if self.why is None:
            self.since = now if since is None else since
            self._say(why, now)
        elif now >= self._due(why):
            self._say(why, now)
        self.why = why

    def pause(self, why: str, since: float | None = None) -> None:
        """Note it and sleep: a moment, twice as long each time, a second at most."""
        self.note(why, since)
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
        self._clock.sleep(self._pause_s)

    def over(self) -> None:
        """Go on; nothing is said if nothing was waited for."""
        if self.why is not None:
            log.info("going on after %.1f s; it was: %s", self._clock.now() - self.since, self.why)
        self.why, self._pause_s = None, 0.0

    def _due(self, why: str) -> float:
        said, at = self._said
        again = at + min(max(at - self.since, FIRST_WORD_S), LONGEST_SILENCE_S)
        return again if why == said else min(again, at + NEWS_S)

    def _say(self, why: str, now: float) -> None:
        self._said = (why, now)
        lasted = now - self.since
        log.warning("waiting%s, nothing is lost: %s", f" for {lasted:.0f} s already" if lasted >= 1 else "", why)
