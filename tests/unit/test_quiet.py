"""The filter before librdkafka's log: what says the same again is kept back for a minute."""

import logging

from services.runtime.quiet import KEPT, Quiet


def line(text: str, second: float) -> logging.LogRecord:
    record = logging.LogRecord("librdkafka", logging.ERROR, __file__, 1, "%s", (text,), None)
    record.created = second
    return record


def test_the_same_line_comes_once_a_minute() -> None:
    """Lines that differ in nothing but how long it took are the same; another line has a minute of its own."""
    quiet = Quiet()
    through = [second for second in range(0, 130, 10) if quiet.filter(line(f"refused (after {second}ms)", second))]
    assert through == [0, 60, 120]
    assert quiet.filter(line("timed out", 125))
    assert not quiet.filter(line("timed out", 184))
    assert quiet.filter(line("timed out", 185))


def test_it_remembers_a_bounded_number() -> None:
    """However many different lines come, what is remembered of them does not grow."""
    quiet = Quiet()
    for number in range(10 * KEPT):
        assert quiet.filter(line(f"line {number}", 0))
    assert len(quiet._said) <= KEPT
