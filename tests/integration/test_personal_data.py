"""A whole run with fields that say who somebody is: what was sent of them is nowhere, in no form, in no byte."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from services.console.looking import WHOLE
from services.runtime.vault import Vault
from tests.departures import EVENT
from tests.kept import Run, kept
from tests.marked import PEOPLE, marked_schemas
from tests.searched import Searched

pytestmark = pytest.mark.timeout(600)
SECRETS = {
    "passenger": "Ada-Lovelace-of-Ockham",
    "email": "ada.l0velace@analytical.example",
    "phone": "+44-7946-0018-11",
}
DIRECT = {"passenger": "Mary-Somerville-Jedburgh", "email": "mary.s@mechanism.example", "phone": "+44-1835-8638-17"}
VISIT = "seen-visit"  # of ids, which nobody marked: who searches must find them
PAGES = (
    "/",
    "/api/predictions/{id}",
    "/api/traces",
    f"/api/traces/{'ab' * 16}",
    "/api/settings",
    "/metrics",
    "/readyz",
)
AT = "2013-01-02T10:{minute:02d}:00Z"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Play some flights of a stream that has such fields; then send some that have values in them, good and bad."""
    folder = tmp_path_factory.mktemp("personal")
    schemas = marked_schemas(folder / "schemas", PEOPLE | {"tailnum": "hash"})
    options = ["--schemas", str(schemas), "--events", "300", "--speed", "max", "--partitions", "2"]
    with kept(folder, *options) as run:
        yield run


def visit(number: int, **fields: object) -> bytes:
    told = {**EVENT, "event_id": f"{VISIT}-{number}", "departed_at": AT.format(minute=number), **fields}
    return json.dumps(told).encode()


@pytest.fixture(scope="module")
def searched(run: Run) -> Searched:
    """Have all kinds of records meet all kinds of trouble, and gather every byte afterwards."""
    posted(run, *(visit(number, **SECRETS) for number in range(20)))
    refused(
        run,
        visit(20, **SECRETS | {"email": SECRETS["email"] * 9}),
        visit(21, distance_mi="far", **SECRETS),
        visit(22)[:-9],
    )
    posted(run, visit(3, **SECRETS))  # a repeated id
    put = [
        visit(30, **DIRECT),
        visit(31, phone=DIRECT["phone"]),
        visit(32, mail=DIRECT["email"]),
        visit(33, **DIRECT)[:-9],
        visit(34, carrier=[DIRECT["passenger"]]),
    ]
    for value in put:
        run.write("flights.events", value, b"JFK")
    for number in range(20):
        run.wait("flights.predictions", f"{VISIT}-{number}")
    run.wait_letters(1 + len(put))
    return gathered(run)


def posted(run: Run, *lines: bytes) -> None:
    answer = post(run, *lines)
    assert answer.json() == {"accepted": len(lines), "rejected": []}


def refused(run: Run, *lines: bytes) -> None:
    answer = post(run, *lines)
    assert len(answer.json()["rejected"]) == len(lines)


def post(run: Run, *lines: bytes) -> httpx.Response:
    up = json.loads((run.folder / "flights" / "running.json").read_bytes())
    headers = {"Content-Type": "application/x-ndjson", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    url = f"{up['ingestion']}/v1/streams/flights/events"
    return httpx.post(url, content=b"\n".join(lines), headers=headers, timeout=30, trust_env=False)


def gathered(run: Run) -> Searched:
    searched = Searched()
    time.sleep(2)  # spans are sent every second
    searched.topics(run.broker)
    searched.files(run.folder / "flights")
    searched.add("output", (run.folder / "output.txt").read_bytes())
    up = json.loads((run.folder / "flights" / "running.json").read_bytes())
    for name, address in up["services"].items():
        searched.add(f"{name} metrics", httpx.get(f"{address}/metrics", timeout=20, trust_env=False).content)
    tokens = json.loads((run.folder / "flights" / "data" / "console" / "tokens.json").read_bytes())
    headers = {"Authorization": f"Bearer {tokens['acting']}"}
    with httpx.Client(base_url=up["console"], headers=headers, timeout=20, trust_env=False) as console:
        for path in [*(page.format(id=f"{VISIT}-3") for page in PAGES), *(f"/api/{part}" for part in WHOLE)]:
            searched.add(f"console {path}", console.get(path).content)
        for offset in [record.offset for record in run.records("flights.dead-letter")]:
            answer = console.get(f"/api/dead/0/{offset}")
            assert answer.is_success
            searched.add(f"console letter {offset}", answer.content)
        with console.stream("GET", "/api/live") as lines:
            end, read = time.monotonic() + 4, b""
            for chunk in lines.iter_raw():
                read += chunk
                if time.monotonic() > end:
                    break
        searched.add("console live", read)
    return searched


def test_who_searches_finds(searched: Searched) -> None:
    """Ids, which nobody marked, are found on topics, in spans and on pages: these are looked through."""
    where = " ".join(searched.where([f"{VISIT}-3"]))
    for place in ("flights.events[", "flights.predictions[", "flights.scored[", "flights.dead-letter[", "spans.db"):
        assert place in where
    assert f"console /api/predictions/{VISIT}-3" in where


def test_what_came_in_by_the_door_is_nowhere(searched: Searched) -> None:
    """Dropped, hashed or tokenised: of what was sent there is nothing on a topic, on a disk, in a log or on a page."""
    assert searched.where(SECRETS.values()) == []


def test_what_was_put_raw_on_kafka_stays_there_alone(searched: Searched) -> None:
    """It is refused: besides the topic to which it was sent by others no byte of ours has it."""
    found = searched.where(DIRECT.values())
    assert len(found) == 5
    assert all(place.startswith("flights.events[") for place in found)


def test_a_token_leads_back_who_may_and_writes_it_down(run: Run, searched: Searched) -> None:
    """`thalweg reveal` tells for what it stands, whoever has the keys; what was asked is on record."""
    del searched
    event = next(json.loads(r.value) for r in run.records("flights.events") if f'{VISIT}-1"'.encode() in r.value)
    done = run.thalweg("reveal", event["phone"])
    assert (done.returncode, done.stdout) == (0, f"phone: {SECRETS['phone']}\n")
    assert event["phone"] in (run.folder / "flights" / "data" / "vault" / "asked.jsonl").read_text()
    assert run.thalweg("reveal", "tok:" + "A" * 22).returncode == 1
    vault = Vault(run.folder / "flights" / "data")
    assert vault.reveal(event["phone"]) == ("phone", SECRETS["phone"])
    vault.close()


def test_nothing_is_forgotten_while_services_hold_it(run: Run) -> None:
    """`thalweg forget` of a run that is up says so, and does nothing."""
    done = run.thalweg("forget", "JFK", "--schemas", run.folder / "schemas")
    assert done.returncode == 1
    assert "flights is up already in" in done.stderr
