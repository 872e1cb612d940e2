"""`thalweg trace`, `thalweg models events` and `thalweg status` live, on one real run: what they tell is so."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Self

import msgspec
import pytest

from services.replay.online import open_batch
from services.runtime.models import Published, decode_event
from services.runtime.records import Record
from tests.kept import HEARS_SIGINT, THALWEG, Run, kept

FLIGHTS = 3000
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
Row = tuple[Record, int, dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Play some flights so fast that several versions come to score them, and stay up."""
    with kept(tmp_path_factory.mktemp("story"), "--events", str(FLIGHTS), "--speed", "30000") as run:
        yield run


def rows(run: Run, kind: str) -> list[Row]:
    """Return the rows of a topic of batches, each with its record and place in that, in the order of the log."""
    records = run.records(f"flights.{kind}")
    return [(record, n, row) for record in records for n, row in enumerate(open_batch(record).to_pylist())]


def by_id(run: Run, kind: str) -> dict[str, Row]:
    return {row["event_id"]: (record, n, row) for record, n, row in rows(run, kind)}


def traced(run: Run, name: str, *more: str) -> dict[str, Any]:
    done = run.thalweg("trace", name, "--json", *more)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_story_is_whole_and_its_facts_are_those_of_the_log(run: Run) -> None:
    """Of random events: every hop with its offset and time, every value, score and weight, the label, who learned."""
    features, scored, examples = by_id(run, "features"), by_id(run, "scored"), by_id(run, "examples")
    order = [row["event_id"] for _, _, row in rows(run, "examples")]
    predictions = {json.loads(r.value)["event_id"]: r for r in run.records("flights.predictions")}
    events = {json.loads(r.value)["event_id"]: r for r in run.records("flights.events")}
    labels = {json.loads(r.value)["event_id"]: r for r in run.records("flights.labels")}
    for name in order[7 :: len(order) // 3]:
        told, said = traced(run, name), json.loads(predictions[name].value)
        assert (told["event_id"], told["outcome"], told["notes"]) == (name, "predicted", [])
        hops = {hop["name"]: hop for hop in told["hops"]}
        placed = {"event": (events[name], None), "prediction": (predictions[name], None), "label": (labels[name], None)}
        placed |= {"features": features[name][:2], "scored": scored[name][:2], "example": examples[name][:2]}
        for hop, (record, row) in placed.items():
            found = [hops[hop][field] for field in ("topic", "partition", "offset", "at", "row")]
            assert found == [record.topic, record.partition, record.offset, record.timestamp, row], hop
        assert told["event"]["value"] == json.loads(events[name].value)
        values = [value for feature in told["features"] for value in feature["columns"].values()]
        assert values == features[name][2]["features"]
        assert told["features_agree"] is True
        pasts = [feature["why"] for feature in told["features"] if feature["why"]["group"]]
        assert len(pasts) == 10
        assert {why["proven"] for why in pasts} == {True}
        check_causes(run, told, events)
        assert {one["version"]: one["score"] for one in told["prediction"]["scores"]} == said["scores"]
        assert {one["version"]: one["weight"] for one in told["prediction"]["scores"]} == said["weights"]
        assert (told["prediction"]["agrees"], {one["agrees"] for one in told["prediction"]["scores"]}) == (True, {True})
        number = order.index(name) + 1
        assert (told["label"]["state"], told["label"]["value"]) == ("known", examples[name][2]["label"])
        assert told["label"]["value"] == float(json.loads(labels[name].value)["late"])
        assert told["learned"]["version"] == f"online@{number}"
        published = [decode_event(record.value) for record in run.records("flights.models")]
        live = min(one.version for one in published if isinstance(one, Published) and one.version >= number)
        assert told["learned"]["published"] == f"online@{live}"


def check_causes(run: Run, told: dict[str, Any], events: dict[str, Record]) -> None:
    """Hold what is said to have made the mean of an hour against the events themselves."""
    del run
    (mean,) = [feature["why"] for feature in told["features"] if feature["name"] == "origin_delay_1h"]
    for cause in mean["causes"]:
        record = events[cause["event_id"]]
        assert (record.partition, record.offset) == (int(told["place"].split("/")[1]), cause["offset"])
        assert json.loads(record.value)["departure_delay_min"] == cause["value"]
        assert json.loads(record.value)["origin"] == told["key"]
    made = sum(cause["value"] for cause in mean["causes"]) / max(mean["count"], 1)
    (value,) = next(feature["columns"].values() for feature in told["features"] if feature["name"] == "origin_delay_1h")
    assert value == pytest.approx(made, rel=1e-5, abs=1e-5)


def test_a_person_reads_the_same_as_a_tree(run: Run) -> None:
    """The lines name offset, features with their events, the score again, the label, and what is derived."""
    predictions = (json.loads(record.value) for record in run.records("flights.predictions"))
    untraced = {one["event_id"] for one in predictions if one["trace_id"] is None}
    order = [row["event_id"] for _, _, row in rows(run, "examples")]
    place = next(n for n in range(1000, len(order)) if order[n] in untraced)
    name = order[place]
    done = run.thalweg("trace", name, "--causes", "2")
    assert done.returncode == 0, done.stderr
    text = re.sub(r"[│├└─\s]+", " ", done.stdout)
    for said in (
        f"{name} of ",
        r"○ \d\d:\d\d:\d\d\.\d{3} event flights\.events/\d/\d+",
        r"features flights\.features/\d/\d+ row \d+ \d+ ms after event",
        r"bit for bit agrees",
        r"mean of departure_delay_min over 1h: \d+ events of origin=\w{3}, from \S+ \S+Z on",
        r"online@\d+ said 0\.\d+, again 0\.\d+ agrees",
        r"label: [01] of 2013-\d\d-\d\d",
        rf"learned: online@{place + 1} live in online@\d+ first",
        r"○ derived from the log nothing of it was traced live",
    ):
        assert re.search(said, text), said
    assert "DIFFERENT" not in text


def test_an_event_without_a_label(run: Run) -> None:
    """What has no example is told as waiting, or never labelled; and nobody learned from it."""
    known = by_id(run, "examples")
    name = next(n for r in run.records("flights.predictions") if (n := json.loads(r.value)["event_id"]) not in known)
    told = traced(run, name)
    assert told["label"]["state"] in ("waiting", "never came")
    assert told["label"]["deadline"] == told["event_time"] + 2 * 86_400 * 10**6
    assert (told["learned"]["version"], told["label"]["examples"]) == (None, [])
    assert [hop["name"] for hop in told["hops"]] == ["event", "features", "scored", "prediction"]
    assert re.search(r"label: (waiting|never came)", run.thalweg("trace", name).stdout)


def test_the_first_and_the_newest_are_found(run: Run) -> None:
    """Of each partition: wherever the broker says that it ends."""
    for partition in range(3):
        records = [r for r in run.records("flights.events") if r.partition == partition]
        for record in (records[0], records[-1]) if records else ():
            told = traced(run, json.loads(record.value)["event_id"])
            assert told["place"] == f"flights.events/{partition}/{record.offset}"
            assert (told["outcome"], told["features_agree"], told["notes"]) == ("predicted", True, [])


def test_an_unknown_event_is_an_error(run: Run) -> None:
    """Exit status 1, and one line that says what was searched."""
    done = run.thalweg("trace", "2013-99-99-XX")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(r"^thalweg: no event '2013-99-99-XX' among 6,?\d+ records", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_a_version_names_exactly_what_it_learned(run: Run) -> None:
    """`models events online@N` is the first N examples, by offsets and by ids; the last of them names that version."""
    examples = rows(run, "examples")
    for version in (1, 1000, len(examples)):
        done = run.thalweg("models", "events", f"online@{version}", "--json", "--ids")
        assert done.returncode == 0, done.stderr
        told, first = json.loads(done.stdout), examples[:version]
        ranges = [(source["partition"], one) for source in told["sources"] for one in source["offsets"]]
        covered = {(p, offset) for p, one in ranges for offset in range(one["first"], one["last"] + 1)}
        assert covered == {(row["partition"], row["offset"]) for _, _, row in first}
        assert told["ids"] == [row["event_id"] for _, _, row in first]
        assert (told["records"]["first"], told["records"]["last"]) == (0, first[-1][0].offset)
    done = run.thalweg("models", "events", "online@1000")
    assert done.stdout.startswith("online@1000 learned from 1,000 examples: flights.examples/0, offsets 0-")
    assert traced(run, examples[999][2]["event_id"])["learned"]["version"] == "online@1000"
    beyond = run.thalweg("models", "events", f"online@{len(examples) + 1}")
    assert (beyond.returncode, "is not there yet" in beyond.stderr) == (1, True)
    assert "has no card" in run.thalweg("models", "events", "batch@1").stderr


def test_the_status_goes_on_until_it_is_interrupted(run: Run) -> None:
    """On a narrow terminal: services, topics, the live model; Ctrl-C ends it well, and leaves the last picture."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-c", HEARS_SIGINT, THALWEG, "status", "--run-dir", run.folder]
    environment = {**os.environ, "COLUMNS": "60", "LINES": "50", "TERM": "xterm"}
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        end = time.monotonic() + 60
        while seen.count(b"Ctrl-C ends this") < 2:
            assert time.monotonic() < end, seen
            seen += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        seen += b"".join(iter(lambda: _more(ours, process), b""))
        assert process.wait(20) == 0, seen
    finally:
        process.kill()
    last = seen.rpartition(b"\x1b[?1049l")[2].decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last)
    for service in ("ingestion", "features", "inference", "labels", "learner", "trainer", "rollout", "drift"):
        assert re.search(rf"^{service} +ready", plain, re.MULTILINE), plain
    assert re.search(r"^predictions +0 +\d", plain, re.MULTILINE)
    assert re.search(r"models +online@\d+ live, weight 1\.000", plain)
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 60
    assert "Traceback" not in plain


def _more(terminal: int, process: subprocess.Popen[bytes]) -> bytes:
    """Return what comes next, nothing once the process has ended and all was read."""
    while not select.select([terminal], [], [], 0.2)[0]:
        if process.poll() is not None:
            return b""
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side is closed
        return b""


# From here on the run is changed


def test_a_dead_letter_says_why_and_where(run: Run) -> None:
    """A refused event is found by its id, and one whose id can't be read by its place."""
    event = json.loads(run.records("flights.events")[0].value) | {"event_id": "refused", "distance_mi": "far"}
    run.write("flights.events", msgspec.json.encode(event), event["origin"].encode())
    run.write("flights.events", b"\xff{", b"JFK")
    run.wait_letters(2)
    told = traced(run, "refused")
    (why,) = told["refused"]
    assert (told["outcome"], why["reason"], why["service"], told["features"]) == ("refused", "schema", "features", [])
    assert re.fullmatch(r"flights\.dead-letter/0/\d+", why["letter"])
    (record,) = [r for r in run.records("flights.events") if b'"refused"' in r.value]
    assert told["place"] == why["place"] == f"flights.events/{record.partition}/{record.offset}"
    (other,) = [r for r in run.records("flights.events") if r.value == b"\xff{"]
    shown = run.thalweg("trace", f"flights.events/{other.partition}/{other.offset}").stdout
    assert re.search(r"refused by features, json: ", shown)
    assert "\\xff{" in shown


def test_live_spans_are_shown_in_the_same_tree(run: Run) -> None:
    """Of a record that came with a traceparent, each span that a console has stands at its record, marked."""
    event = json.loads(run.records("flights.events")[-3].value) | {"event_id": "sampled"}
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "from": "a test"}
    run.write("flights.events", msgspec.json.encode(event), event["origin"].encode(), headers=headers)
    run.wait("flights.predictions", "sampled")
    with Keeper() as keeper:
        told = traced(run, "sampled", "--console", keeper.url, "--token", "reader")
        shown = run.thalweg("trace", "sampled", "--console", keeper.url, "--token", "reader").stdout
        refused = traced(run, "sampled", "--console", keeper.url, "--token", "nobody")
    assert told["trace_id"] == TRACE
    assert told["event"]["headers"] == headers
    live = {hop["name"]: [span["name"] for span in hop["live"]] for hop in told["hops"]}
    assert live["event"] == ["send flights.events"]
    assert live["features"] == ["process flights.events"]
    assert "● ingestion: send flights.events  1.5 ms" in shown
    assert "● traced live (2 spans)" in shown
    assert re.search(r"no live spans: http://\S+ .*401", refused["notes"][0])


class Keeper:
    """An HTTP server that answers as the console's interface has it."""

    def __enter__(self) -> Self:
        spans = [
            _span("1", "send flights.events", "ingestion", 0, 1_500_000),
            _span("2", "process flights.events", "features", 2_000_000, 3_000_000),
        ]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.headers.get("Authorization") == "Bearer reader" and self.path == f"/api/traces/{TRACE}"
                self.send_response(200 if known else 401)
                self.end_headers()
                self.wfile.write(json.dumps({"spans": spans} if known else {"error": "who?"}).encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _span(name: str, called: str, service: str, start: int, end: int) -> dict[str, Any]:
    where = {"trace_id": TRACE, "span_id": name, "parent_id": None, "name": called, "service": service}
    rest = {"kind": "PRODUCER", "status": "OK", "attributes": {}, "events": [], "links": []}
    return where | {"start_ns": start, "end_ns": end} | rest
