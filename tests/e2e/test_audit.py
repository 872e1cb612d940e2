"""What a person proves and repairs, on one real run: verify, replay and dead-letter.

The first command is run as it is installed. The others are called in this process, which spares each its start.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.replay.online import open_batch
from tests.kept import THALWEG, Done, Run, kept

ROOT = Path(__file__).parents[2]
FLIGHTS = 2000
LINE = r"(\d+) rows of features and (\d+) predictions compared, (\d+) late, (\d+) refused: (the same|DIFFERENT)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Play some flights so fast that several versions come to score them, and stay up."""
    with kept(tmp_path_factory.mktemp("audit"), "--events", str(FLIGHTS), "--speed", "15000") as run:
        yield run


def counted(done: Done) -> list[int]:
    """Return the sums over the partitions: rows, predictions, late and refused events."""
    found = [tuple(map(int, counts[:4])) for counts in re.findall(LINE, done.stdout)]
    assert len(found) == 3, done.stdout + done.stderr
    return [sum(column) for column in zip(*found, strict=True)]


def test_a_run_verifies(run: Run) -> None:
    """Exit 0: every event has its row bit for bit, and its prediction with the score of the version that it names."""
    argv = [THALWEG, "verify", "--run-dir", run.folder]
    installed = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    done = Done(installed.returncode, installed.stdout, installed.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(done) == [FLIGHTS, FLIGHTS, 0, 0]
    (versions,) = re.findall(rf"{FLIGHTS} events, {FLIGHTS} predictions, (\d+) versions: the same", done.stdout)
    assert int(versions) >= 2
    assert "made again" not in done.stdout


def test_without_its_artifacts_it_verifies_as_well(run: Run, tmp_path: Path) -> None:
    """Scores are proven from the log alone, on a machine that has nothing else; a span bounds what is compared."""
    span = ["--from", "2013-01-02T00:00:00Z", "--to", "2013-01-03T00:00:00Z"]
    done = run.thalweg("verify", *span, "--broker", run.broker, run_dir=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    inside = [r for r in run.records("flights.predictions") if b'"event_time":"2013-01-02T' in r.value]
    assert counted(done)[:2] == [len(inside)] * 2
    assert re.search(r"\d+ versions made again from `examples`", done.stdout)


def test_a_changed_definition_is_found_out(run: Run, tmp_path: Path) -> None:
    """Exit 1 with one default changed: the first row that differs is named, with both values and where it stands."""
    done = run.thalweg("verify", "--schemas", changed(tmp_path, 'op = "lag", ', 'op = "lag", default = 3.0,'))
    assert done.returncode == 1
    first = r"features: last_delay of 2013-01-01-\S+ \(flights\.events/\d/0\) in flights\.features/\d/\d+: "
    assert re.search(first + r"online 0\.0, replayed 3\.0", done.stdout)
    assert re.search(r"written by feature set flights:\w+, folded by flights:\w+", done.stdout)


def changed(folder: Path, old: str, new: str) -> Path:
    """Return a folder of stream folders in which the flights' pipeline has a change."""
    shutil.copytree(ROOT / "schemas", folder / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    pipeline = folder / "schemas" / "flights" / "pipeline.toml"
    assert old in pipeline.read_text()
    pipeline.write_text(pipeline.read_text().replace(old, new))
    return folder / "schemas"


def test_a_fold_of_the_log_has_the_digest_of_what_was_written(run: Run, tmp_path: Path) -> None:
    """`replay` alone compares each partition's features by digest; by another feature they differ, exit status 1."""
    done = run.thalweg("replay")
    assert (done.returncode, done.stdout.count(": the same\n")) == (0, 3), done.stdout + done.stderr
    assert sum(int(found) for found in re.findall(r": (\d+) rows of features", done.stdout)) == FLIGHTS
    schemas = changed(tmp_path, 'window = "15m"', 'window = "30m"')
    other = run.thalweg("replay", "--schemas", schemas)
    assert (other.returncode, "DIFFERENT" in other.stdout) == (1, True)
    refused = run.thalweg("replay", "--scores", "online@7")
    assert (refused.returncode, "--into" in refused.stderr) == (1, True)


def test_a_run_is_rebuilt_as_it_was(run: Run) -> None:
    """`replay --into`: all topics downstream come out the same, but for traces; one that holds something is refused."""
    done = run.thalweg("replay", "--into", "copy")
    assert done.returncode == 0, done.stderr
    examples = len(rows(run, "flights.examples"))
    assert f"{FLIGHTS} rows of features, {FLIGHTS} scores, {examples} examples" in done.stdout
    for kind in ("features", "scored", "examples"):
        assert rows(run, f"copy.{kind}") == rows(run, f"flights.{kind}"), kind
    predictions = [[json.loads(r.value) for r in run.records(f"{name}.predictions")] for name in ("copy", "flights")]
    assert {one["trace_id"] for one in predictions[0]} == {None}
    copied, made = ({one["event_id"]: one | {"trace_id": None} for one in found} for found in predictions)
    assert (copied, len(predictions[0])) == (made, FLIGHTS)
    again = run.thalweg("replay", "--into", "copy")
    assert again.returncode == 1
    assert "copy.features is there already and not empty" in again.stderr


def rows(run: Run, topic: str) -> list[dict[str, Any]]:
    found = [row for record in run.records(topic) for row in open_batch(record).to_pylist()]
    return sorted(found, key=lambda row: str(row["event_id"]))


def test_what_a_version_would_have_said(run: Run) -> None:
    """`--scores online@N` in a span: each of its events has a prediction by that version, live then or not."""
    span = ["--from", "2013-01-01T12:00:00Z", "--to", "2013-01-01T18:00:00Z"]
    done = run.thalweg("replay", "--into", "seven", "--scores", "online@7", "--topics", "predictions", *span)
    assert done.returncode == 0, done.stderr
    said = [json.loads(record.value) for record in run.records("seven.predictions")]
    assert {tuple(prediction["scores"]) for prediction in said} == {("online@7",)}
    assert all("2013-01-01T12" <= prediction["event_time"] < "2013-01-01T18" for prediction in said)
    assert len(said) > 100
    gone = run.thalweg("replay", "--into", "never", "--scores", "online@99999")
    assert gone.returncode == 1
    assert "online@99999 has no artifact and can't be made again" in gone.stderr


def test_a_new_feature_is_filled_in(run: Run, tmp_path: Path) -> None:
    """With a feature added to the stream folder, its past is made; what models of the old set say is not mixed in."""
    extra = 'best = { op = "min", of = "departure_delay_min", window = "1h" }\n\n[label]'
    schemas = changed(tmp_path, "[label]", extra)
    refused = run.thalweg("replay", "--into", "wider", "--scores", "online@7", "--schemas", schemas)
    assert refused.returncode == 1
    assert "online@7 learned flights:" in refused.stderr
    done = run.thalweg("replay", "--into", "wider", "--schemas", schemas)
    assert done.returncode == 0, done.stderr
    assert "no predictions: they would name flights:" in done.stdout
    was, found = rows(run, "flights.examples"), rows(run, "wider.examples")
    assert [row["features"] for row in was] == [row["features"][:-1] for row in found]
    assert len({row["features"][-1] for row in found}) > 5
    assert [row["online"] for row in was] == [row["online"] for row in found]


# From here on the run is changed


def test_dead_letters_are_listed_shown_and_sent_again(run: Run) -> None:
    """A bad key is put right and predicted; what is bad still is a new letter; nothing is sent a second time."""
    event = json.loads(run.records("flights.events")[0].value) | {"event_id": "put-right", "origin": "JFK"}
    run.write("flights.events", msgspec.json.encode(event), b"LGA")
    run.write("flights.events", b'\xff{"no": \x1b[2J', b"JFK")
    run.wait_letters(2)
    listed = run.thalweg("dead-letter", "list")
    assert re.search(
        r"^flights.events/\d/\d+  \S+Z  features  key: Expected .* 'JFK', got 'LGA'$", listed.stdout, re.MULTILINE
    )
    assert "json: 1, 0 of them replayed\n" in listed.stdout
    assert run.thalweg("dead-letter", "list", "--reason", "schema").stdout == "0 dead letters\n"
    (place,) = re.findall(r"^(\S+)  \S+  features  json:", listed.stdout, re.MULTILINE)
    shown = run.thalweg("dead-letter", "show", place).stdout
    assert "key: JFK\n" in shown
    assert '\\xff{"no": \\x1b[2J' in shown
    assert run.thalweg("dead-letter", "show", "flights.events/9/9").returncode == 1

    rehearsed = run.thalweg("dead-letter", "replay", "--dry-run").stdout
    assert rehearsed.endswith("2 dead letters would be sent: 1 json, 1 key\n")
    sent = run.thalweg("dead-letter", "replay", "--reason", "key", "--fix-key")
    assert sent.stdout.endswith("1 dead letters sent: 1 key\n"), sent.stderr
    assert run.wait("flights.predictions", "put-right")["key"] == "JFK"
    assert run.thalweg("dead-letter", "replay", "--id", place).returncode == 0
    run.wait_letters(5)  # two letters, two marks, and the one that was refused again
    assert "no dead letter" in run.thalweg("dead-letter", "replay", "--id", place).stdout
    listed = run.thalweg("dead-letter", "list")
    assert "json: 2, 1 of them replayed\n" in listed.stdout
    assert "key: 1, 1 of them replayed\n" in listed.stdout
    origin = {"thalweg-replayed": place.encode()}
    assert [r.value for r in run.records("flights.events") if dict(r.headers or []) == origin] == [
        b'\xff{"no": \x1b[2J'
    ]


def test_late_and_refused_events_are_explained(run: Run) -> None:
    """Verify agrees after all that, says who was late and by how much, and counts what was refused."""
    done = run.thalweg("verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(done) == [FLIGHTS + 1, FLIGHTS + 1, 1, 3]
    assert re.search(r"late: put-right \(flights.events/\d/\d+\) came \d{5,} s behind the newest event", done.stdout)
    assert "late: 1 events, more than 10m behind: they have a row, and no window counts them" in done.stdout


def test_a_forged_prediction_is_named(run: Run) -> None:
    """Exit 1: a prediction that somebody wrote beside the inference is one more than there may be."""
    record = run.records("flights.predictions")[0]
    run.write("flights.predictions", record.value, record.key or b"", record.partition)
    done = run.thalweg("verify")
    assert done.returncode == 1
    event_id = json.loads(record.value)["event_id"]
    assert re.search(
        rf"predictions: record of {event_id} \(flights.events/\d/\d+\) in flights.predictions/", done.stdout
    )
    assert "DIFFERENT, 1 in predictions" in done.stdout.splitlines()[-1]
