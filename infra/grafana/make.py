"""Writes the dashboards: `python -m infra.grafana.make`. Panels are rows of a table here, and JSON only at the end."""

import json
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
WIDTH, HEIGHT = 8, 8  # of a panel; a row of Grafana's has 24
WHERE = '{stream="$stream"}'
OF = 'stream="$stream"'


class Panel(NamedTuple):
    """One chart: its queries by their legend, and the unit of what they give, as Grafana names it."""

    title: str
    unit: str
    queries: dict[str, str]


def _rate(name: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({name}{{{OF}{more}}}[1m]))"


def _quantile(share: float, name: str, by: str, more: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{', ' + by if by else ''}) (rate({name}_bucket{{{OF}{more}}}[1m])))"


def _both(name: str, by: str, more: str = "") -> dict[str, str]:
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ") if label)
    return {f"{legend} p{round(share * 100)}".strip(): _quantile(share, name, by, more) for share in (0.5, 0.99)}


TOPIC = "messaging_destination_name"
SERVICE = "{{service}}"
COMMIT = ', messaging_operation_name="commit"'
WHAT = f"{{{{service}}}} {{{{{TOPIC}}}}}"
FLOW = [
    Panel("Events predicted", "reqps", {"accepted": f"stream:events_accepted:rate5m{WHERE}"}
          | {"predicted": f"stream:events_predicted:rate5m{WHERE}", "refused": f"stream:events_refused:rate5m{WHERE}"}),
    Panel("From event to prediction", "s", _both("thalweg_prediction_age_seconds", "")),
    Panel("Oldest unread record", "s", {WHAT: f"max by (service, {TOPIC}) (thalweg_consumer_lag_seconds{WHERE})"}),
    Panel("Unread records", "short", {WHAT: f"sum by (service, {TOPIC}) (thalweg_consumer_lag_records{WHERE})"}),
    Panel("Rows out", "wps", {WHAT: _rate("thalweg_sent_rows_total", f"service, {TOPIC}")}),
    Panel("Fold of a batch", "s", _both("messaging_process_duration_seconds", "service")),
    Panel("Commit", "s", _both("messaging_client_operation_duration_seconds", "service", COMMIT)),
    Panel("Rows of a batch, median", "short", {SERVICE: _quantile(0.5, "thalweg_batch_rows", "service")}),
    Panel("Requests", "reqps", {"{{http_route}} {{http_response_status_code}}":
          _rate("http_server_request_duration_seconds_count", "http_route, http_response_status_code")}),
    Panel("Refused", "short", {"{{reason}}": _rate("thalweg_dead_letters_total", "reason")}
          | {"at the door: {{reason}}": _rate("thalweg_refused_lines_total", "reason")}),
    Panel("Tried again", "short", {"{{service}} {{error_type}}": _rate("thalweg_errors_total", "service, error_type")}),
    Panel("Triton: queue and compute", "µs", {
        "{{model}} queue": f"sum by (model) (rate(nv_inference_queue_duration_us{WHERE}[1m]))"
        f" / sum by (model) (rate(nv_inference_exec_count{WHERE}[1m]))",
        "{{model}} compute": f"sum by (model) (rate(nv_inference_compute_infer_duration_us{WHERE}[1m]))"
        f" / sum by (model) (rate(nv_inference_exec_count{WHERE}[1m]))",
    }),
]  # fmt: skip
MODELS = [
    Panel("Log loss of an hour", "none", {"{{model}} {{role}}": f"stream_model_role:log_loss_nats:mean1h{WHERE}"}),
    Panel("Labels", "percentunit", {"coverage": f"thalweg_label_coverage_ratio{WHERE}"}),
    Panel("Wait of a label", "s", {"median": f"thalweg_label_wait_seconds{WHERE}"}),
    Panel("Waiting for each other", "short", {"{{side}}": f"thalweg_label_waiting_rows{WHERE}"}),
    Panel("Age of the online model", "s", {"age": f"time() - thalweg_model_published_timestamp_seconds{WHERE}"}),
    Panel("Versions of the batch model", "short", {"{{state}}": f"thalweg_model_versions{WHERE}"}),
    Panel("Drift of features, 1 is an alert", "none", {"{{feature}}": f"thalweg_drift_strength_ratio{WHERE}"}),
    Panel("Open alerts", "short", {"{{kind}}": f"thalweg_open_alerts{WHERE}"}),
    Panel("Training", "short", {"now": f"thalweg_training{WHERE}"}),
]  # fmt: skip
HEALTH = [
    Panel("Budget burnt in the last day, 1 is all of its share", "none", {
        "availability": f"stream:slo_availability_errors:ratio_rate1d{WHERE} / 0.001",
        "latency": f"stream:slo_latency_errors:ratio_rate1d{WHERE} / 0.01",
        "freshness": f"stream:slo_freshness_errors:ratio_rate1d{WHERE} / 0.01",
    }),
    Panel("Ready", "short", {"{{instance}}": f"thalweg_ready{WHERE}"}),
    Panel("Waits for somebody", "s", {"{{instance}}": f"thalweg_waiting_seconds{WHERE}"}),
    Panel("Partitions", "short", {"{{instance}}": f"thalweg_assigned_partitions{WHERE}"}),
    Panel("Folded in silence, still to go", "short", {"{{instance}}": f"thalweg_restoring_records{WHERE}"}),
    Panel("Rebalances", "short", {"{{instance}}": f"increase(thalweg_rebalances_total{WHERE}[5m])"}),
    Panel("Oldest fold in no snapshot", "s", {"{{instance}}": f"thalweg_snapshot_age_seconds{WHERE}"}),
    Panel("Snapshots", "s", _both("thalweg_snapshot_duration_seconds", "service")),
    Panel("Event time behind", "s", {SERVICE: f"thalweg_watermark_delay_seconds{WHERE}"}),
    Panel("Memory", "bytes", {"{{instance}}": f"process_resident_memory_bytes{WHERE}"}),
    Panel("Cores", "short", {"{{instance}}": f"rate(process_cpu_seconds_total{WHERE}[1m])"}),
    Panel("Open files", "short", {"{{instance}}": f"process_open_fds{WHERE}"}),
]  # fmt: skip


def dashboards() -> dict[str, dict[str, Any]]:
    """Return each dashboard by the name of its file."""
    told = {"flow": FLOW, "models": MODELS, "health": HEALTH}
    return {f"thalweg-{name}": _dashboard(name, panels) for name, panels in told.items()}


def text(dashboard: dict[str, Any]) -> str:
    return json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"


def _dashboard(name: str, panels: list[Panel]) -> dict[str, Any]:
    streams = {
        "name": "stream",
        "type": "query",
        "datasource": {"type": "prometheus"},
        "query": "label_values(thalweg_service_info, stream)",
        "refresh": 2,
    }
    return {
        "uid": f"thalweg-{name}",
        "title": f"Thalweg: {name}",
        "tags": ["thalweg"],
        "schemaVersion": 38,
        "refresh": "5s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [streams]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    across = 24 // WIDTH
    targets = [
        {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend, "exemplar": "_bucket" in query}
        for place, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number + 1,
        "title": panel.title,
        "type": "timeseries",
        "datasource": {"type": "prometheus"},
        "gridPos": {"x": number % across * WIDTH, "y": number // across * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


if __name__ == "__main__":
    for name, made in dashboards().items():
        (HERE / f"{name}.json").write_text(text(made))
