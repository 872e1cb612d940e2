"""How much each producer may send: token buckets of records and of bytes. Pure; times are seconds of one clock.

A bucket holds a second's worth. A request that is larger than that is let in when the bucket is full and is paid off
afterwards, so that it is never refused for ever and the rate holds in the long run: over T seconds at most
`rate · (T + 1)` and one request.
"""

from services.ingestion.keys import Caller, Denied, Producer

EXACT_S = 1e-6  # what waiting loses in rounding


class Bucket:
    """Fills by `rate` a second, up to a second's worth (one, if that is less)."""

    def __init__(self, rate: float, at: float) -> None:
        self.rate = rate
        self._most = self._left = max(1.0, rate)
        self._at = at

    def wait(self, cost: float, at: float) -> float:
        """Return for how many seconds this much has to wait; 0 if it is let in at once."""
        if at > self._at:
            self._left = min(self._most, self._left + (at - self._at) * self.rate)
            self._at = at
        short = (min(cost, self._most) - self._left) / self.rate
        return short if short > EXACT_S else 0.0

    def take(self, cost: float) -> None:
        """Take this much, of which `wait` said that it is let in."""
        self._left -= cost


class Quotas:
    """The buckets of all producers. One whose quota is changed begins with full buckets."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def over(self, caller: Caller, records: int, size: int, at: float) -> Denied | None:
        """Say whether this much is more than the caller may send now; nothing is counted."""
        grant = caller.grant
        if grant is None or (grant.records_s is None and grant.bytes_s is None):
            return None
        costs = (records, size)
        for bucket, what, place in self._of(caller.producer, grant, at).buckets:
            if wait := bucket.wait(costs[place], at):
                message = f"more than the {bucket.rate:g} {what} a second that {caller.producer} may send"
                return Denied(429, what, message, caller.key, caller.producer, wait)
        return None

    def charge(self, caller: Caller, records: int, size: int, at: float) -> Denied | None:
        """Count this much, or say that it is too much and count nothing."""
        denied = self.over(caller, records, size, at)
        if denied is None and (held := self._held.get(caller.producer)) is not None:
            for bucket, _, place in held.buckets:
                bucket.take((records, size)[place])
        return denied

    def _of(self, producer: str, grant: Producer, at: float) -> "_Held":
        held = self._held.get(producer)
        if held is None or held.quota != (grant.records_s, grant.bytes_s):
            held = self._held[producer] = _Held(grant.records_s, grant.bytes_s, at)
        return held


class _Held:
    """The buckets of one producer, each with what it counts and the place of that in a cost."""

    def __init__(self, records_s: float | None, bytes_s: float | None, at: float) -> None:
        self.quota = records_s, bytes_s
        named = ((records_s, "records", 0), (bytes_s, "bytes", 1))
        self.buckets = [(Bucket(rate, at), what, place) for rate, what, place in named if rate is not None]
