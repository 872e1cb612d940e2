"""What a real run emits, held against `infra/telemetry.toml`, both ways."""

import math
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from infra.local.demo import PROMPT
from infra.local.instances import SERVICES
from infra.local.replayer import Replayer, records
from infra.local.scraped import place
from infra.local.stack import Options, Stack
from services.runtime.stream import load_stream

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"
STREAM = load_stream(SCHEMAS, "flights")
LIST: dict[str, Any] = tomllib.loads((ROOT / "infra" / "telemetry.toml").read_text())
OPEN = "application/openmetrics-text; version=1.0.0"
EVENTS = 4000
IDLE = {"messaging_client_sent_messages_total", "thalweg_sent_rows_total"}  # of who had nothing to write in this run
SILENT = {name: {"trainer", "rollout", "drift"} for name in IDLE}


class Run:
    """A run that has predicted, labelled and refused something; `pages` are what its services told then, by name."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.pages: dict[str, str] = {}
        self.targets: list[dict[str, Any]] = []

    def play(self) -> None:
        options = Options("flights", run_dir=self.run_dir, settings=PROMPT)
        with Stack(options, STREAM, SCHEMAS) as stack:
            timed = records(SCHEMAS, "flights", EVENTS)
            Replayer(STREAM, stack.ingestion, timed, math.inf, stack.check).run(lambda: None)
            spoil(stack.broker.address)
            refused = httpx.post(f"{stack.ingestion}/v1/streams/flights/events", json={})
            assert refused.status_code == 422
            refused = httpx.post(f"{stack.ingestion}/v1/streams/flights/events", content=b"no JSON")
            assert refused.status_code == 415
            self._wait(stack)
            self.pages = {name: page(url) for name, url in stack.answering.items()}
            self.targets = msgspec.json.decode(place(self.run_dir, "flights").read_bytes())
            [triton] = [one["targets"][0] for one in self.targets if one["labels"]["service"] == "triton"]
            self.pages["triton"] = httpx.get(f"http://{triton}/metrics").text

    def _wait(self, stack: Stack) -> None:
        """Return once a summary of drift was judged, which is last to come."""
        end = time.monotonic() + 60
        while "thalweg_summary_age_seconds " not in page(stack.answering["drift"]):
            stack.check()
            assert time.monotonic() < end
            time.sleep(0.2)
        time.sleep(2)  # the client tells of lags once a second


def spoil(broker: str) -> None:
    """Write what is no event straight to the log, past the door."""
    producer = Producer({"bootstrap.servers": broker})
    producer.produce("flights.events", b"no event", key=b"JFK")
    assert producer.flush(10) == 0


def page(url: str) -> str:
    answer = httpx.get(f"{url}/metrics", headers={"Accept": OPEN}, timeout=10)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert parse(httpx.get(f"{url}/metrics", timeout=10).text)
    return answer.text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("telemetry"))
    run.play()
    return run


def listed(service: str) -> dict[str, dict[str, Any]]:
    """Return what the list says that a service emits, by name."""
    groups: dict[str, list[str]] = LIST["groups"]
    return {
        name: told
        for name, told in LIST["metrics"].items()
        if service in [one for group in told["services"] for one in groups.get(group, [group])]
    }


def families(text: str) -> Iterator[tuple[str, Any]]:
    """Yield each metric of a page by the name that Prometheus stores it under."""
    for family in parse_open(text):
        yield family.name + ("_total" if family.type == "counter" else ""), family


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_emits_what_is_listed_and_nothing_else(run: Run, service: str) -> None:
    """Name and type of each metric are the list's; no service has one more, or one less, and each has a help."""
    found = dict(families(run.pages[service]))
    expected = listed(service)
    assert set(found) == {*expected, *LIST["process"]["metrics"]}
    for name, told in expected.items():
        assert (name, found[name].type) == (name, told["type"])
        assert found[name].documentation.endswith("."), name


def allowed(values: object) -> set[str] | None:
    """Return the values that a label may have; None for any whole number."""
    named: dict[object, set[str]] = {
        "features": {*STREAM.pipeline.features},
        "services": {*SERVICES},
        "streams": {STREAM.name},
    }
    if values == "numbers":
        return None
    return named[values] if isinstance(values, str) else set(values)  # type: ignore[call-overload]


@pytest.mark.parametrize("service", SERVICES)
def test_labels_are_few_and_their_values_known(run: Run, service: str) -> None:
    """A metric has the labels of the list and no others, and each value is one of those that the list allows."""
    for name, family in families(run.pages[service]):
        if name in LIST["process"]["metrics"]:
            continue
        labels: dict[str, str] = listed(service)[name].get("labels", {})
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(labels), name
            for label, kind in labels.items():
                among, value = allowed(LIST["values"][kind]), sample.labels[label]
                shown = value.removeprefix("flights.") if kind == "topic" else value
                assert shown.isdecimal() if among is None else shown in among, (name, label, value)


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_does_shows(run: Run, service: str) -> None:
    """Each metric of the list has a sample, but for what cannot have come to be in this run."""
    for name, family in families(run.pages[service]):
        assert family.samples or service in SILENT.get(name, ()), f"{service}: {name}"


def sample(run: Run, service: str, name: str, **labels: str) -> float:
    for _, family in families(run.pages[service]):
        for found in family.samples:
            if found.name == name and labels.items() <= found.labels.items():
                return float(found.value)
    raise AssertionError(f"{service} has no {name} {labels}")


def test_numbers_agree_with_what_was_sent(run: Run) -> None:
    """Events sent, folded, predicted and measured are the same number, told by three services."""
    topics = [("ingestion", "messaging_client_sent_messages_total", "flights.events")]
    topics += [("features", "thalweg_sent_rows_total", "flights.features")]
    topics += [("inference", "thalweg_consumed_rows_total", "flights.features")]
    topics += [("inference", "messaging_client_sent_messages_total", "flights.predictions")]
    for service, name, topic in topics:
        assert sample(run, service, name, messaging_destination_name=topic) == EVENTS, (service, name)
    assert sample(run, "inference", "thalweg_prediction_age_seconds_count") == EVENTS
    consumed = sample(run, "features", "messaging_client_consumed_messages_total")
    dead = sample(run, "features", "thalweg_dead_letters_total", reason="json")
    assert (consumed, dead) == (EVENTS + 1, 1)
    assert 0 < sample(run, "inference", "thalweg_prediction_age_seconds_sum") / EVENTS < 60
    assert sample(run, "ingestion", "thalweg_refused_lines_total", reason="schema") == 1
    assert sample(run, "ingestion", "thalweg_refused_requests_total", reason="type") == 1
    labelled = sample(run, "rollout", "thalweg_model_examples_total", role="served")
    assert labelled == sample(run, "labels", "thalweg_labelled_events") > 0
    loss = sample(run, "rollout", "thalweg_model_loss_nats_total", role="served") / labelled
    assert loss == pytest.approx(sample(run, "labels", "thalweg_served_log_loss_nats"), rel=0.05)
    assert sample(run, "rollout", "thalweg_model_examples_total", role="baseline") == labelled
    guess = sample(run, "rollout", "thalweg_model_loss_nats_total", role="baseline") / labelled
    assert 0 < guess < 0.75  # no more than not knowing, log 2, but for the first few
    assert 0 < sample(run, "labels", "thalweg_label_coverage_ratio") <= 1


def test_prometheus_is_told_of_every_service(run: Run) -> None:
    """Each service, and Triton, is a target, under the name that the launcher has for it."""
    assert {one["labels"]["instance"] for one in run.targets} == {*SERVICES, "triton"}
    assert all(one["labels"].keys() == {"service", "instance", "stream"} for one in run.targets)


def test_triton_tells_of_itself(run: Run) -> None:
    """Its own metrics have the requests of the stream's models, and how long these waited and were computed."""
    found = {family.name for family in parse(run.pages["triton"])}
    assert found >= set(LIST["triton"]["metrics"])
    assert 'nv_inference_request_success{model="flights_online"' in run.pages["triton"]
