"""What the console's page tells of one prediction, in a real browser over a real run."""

from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.browsed import Look
from tests.played import SCREENSHOTS, Run

HOUR_NS = 3_600_000_000_000
pytestmark = pytest.mark.timeout(600)


def test_a_prediction_is_accounted_for(looked: Look, run: Run) -> None:
    """Searched by id: its score, versions, weights and features are those on the log."""
    page = looked.page
    page.keyboard.press("/")
    page.keyboard.type(run.newest)
    page.keyboard.press("Enter")
    expect(page.locator(".verdict h2")).to_have_text(run.newest)
    prediction = run.predicted()[run.newest]
    scores, weights = prediction["scores"], prediction["weights"]
    assert isinstance(scores, dict)
    assert isinstance(weights, dict)
    for version, score in scores.items():
        row = page.locator(".mix tr", has_text=version)
        assert float(row.locator("td").first.inner_text()) == pytest.approx(score, abs=1e-3)
        assert row.locator("td").nth(2).inner_text().rstrip(" %") == f"{100 * weights[version]:.0f}"
    for feature in run.stream.columns:
        expect(page.locator(".features")).to_contain_text(feature)
    assert looked.grave() == []
    page.screenshot(path=SCREENSHOTS / "prediction-light-1440.png")


def test_a_trace_is_a_waterfall(looked: Look, run: Run) -> None:
    """Spans that the console was sent: parents before children, hours without any folded, attributes on a click."""
    start = 1_357_600_000_000_000_000
    sent = [
        span("a1", "", "checkout", "sell", start, 40_000_000, {"thalweg.event_id": run.newest}),
        span("b2", "a1", "ingestion", "POST /v1/streams/{stream}/events", start + 5_000_000, 20_000_000, {}),
        span("c3", "b2", "labels", "process flights.labels", start + 3 * HOUR_NS, 9_000_000, {"thalweg.rows": "7"}),
    ]
    httpx.post(f"{run.address}/v1/traces", json={"resourceSpans": sent}).raise_for_status()
    looked.open(f"predictions/{run.newest}")
    page = looked.page
    rows = page.locator(".waterfall li")
    expect(rows).to_have_count(3)
    assert [row.locator(".label b").inner_text() for row in rows.all()] == ["checkout", "ingestion", "labels"]
    assert [row.locator(".n").inner_text() for row in rows.all()] == ["40 ms", "20 ms", "9 ms"]
    expect(page.locator(".ruler span")).to_have_text("2 h 59 min")
    rows.last.get_by_role("button").click()
    expect(rows.last.locator(".attributes")).to_contain_text("thalweg.rows")
    assert looked.grave() == []
    page.screenshot(path=SCREENSHOTS / "trace-light-1440.png")


def span(
    name: str, parent: str, service: str, does: str, start_ns: int, lasts_ns: int, attributes: dict[str, str]
) -> dict[str, Any]:
    """Return a span of one trace as OTLP has it in JSON, under the service that sends it."""
    told = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    sent = {"traceId": "5f" * 16, "spanId": name * 8, "parentSpanId": parent * 8, "name": does, "kind": 1}
    sent |= {"startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + lasts_ns), "attributes": told}
    named = [{"key": "service.name", "value": {"stringValue": service}}]
    return {"resource": {"attributes": named}, "scopeSpans": [{"spans": [sent]}]}
