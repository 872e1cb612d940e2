"""What is asked of the collector after a trial: when nothing is left in it, and what counts as a loss."""

import pytest

from infra.compose.beside import all_left

ACCEPTED, REFUSED = "otelcol_receiver_accepted_spans_total", "otelcol_receiver_refused_spans_total"
SENT, FAILED = "otelcol_exporter_sent_spans_total", "otelcol_exporter_send_failed_spans_total"
CONSOLE, JAEGER = "otlphttp/console", "otlp/jaeger"


def test_all_has_left_when_the_console_has_what_came() -> None:
    """As many spans were sent to the console as were accepted, and there were some; Jaeger is not there."""
    assert all_left({ACCEPTED: 7, REFUSED: 0, f"{SENT} {CONSOLE}": 7, f"{FAILED} {JAEGER}": 7})
    assert all_left({ACCEPTED: 8, f"{SENT} {CONSOLE}": 7}) is None
    assert all_left({ACCEPTED: 7, f"{SENT} {JAEGER}": 7}) is None
    assert all_left({ACCEPTED: 0, f"{SENT} {CONSOLE}": 0}) is None
    assert all_left({}) is None


@pytest.mark.parametrize("lost", [REFUSED, f"{FAILED} {CONSOLE}"])
def test_a_span_refused_or_given_up_is_lost(lost: str) -> None:
    """No waiting brings it back."""
    with pytest.raises(RuntimeError, match=lost):
        all_left({ACCEPTED: 7, lost: 1, f"{SENT} {CONSOLE}": 7})
