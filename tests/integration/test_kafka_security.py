"""A whole run on an Apache Kafka with TLS, users and rules: each service does its own, and is refused all else."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from infra import cli
from infra.kafka.acls import FORGET, OPERATOR, grants, rules, user
from infra.kafka.granting import beyond, grant
from infra.local import access, authority, brokers, stack
from infra.local.brokers import BrokerUnavailable
from infra.local.ledger import Ledger
from infra.local.replayer import Replayer, Sent, records
from infra.local.stack import REPOSITORY, SERVICES, Options, Stack
from services.drift.tables import changelogs
from services.runtime.clients import knock
from services.runtime.errors import Stop
from services.runtime.history import KafkaHistory, read_all
from services.runtime.models import decode_event
from services.runtime.secret import Secret
from services.runtime.settings import Settings
from services.runtime.stream import TOPICS, load_stream
from tests.guarded import begins, commits, readable, writable

pytestmark = pytest.mark.timeout(600)
SCHEMAS = REPOSITORY / "schemas"
STREAM = load_stream(SCHEMAS, "flights")
EVENTS = 400
PATIENCE_S = 120
OWN = sorted(changelogs(STREAM, {"scored": 1, "examples": 1, "summaries": 1}))  # drift's
EVERY_TOPIC = [STREAM.topic(kind) for kind in TOPICS] + OWN
WRONG = "no-such-password"


class Run:
    """A guarded run through which flights have gone. Its services have ended, and its broker has not."""

    def __init__(self, up: Stack, sent: Sent, counts: Mapping[str, int], pages: Mapping[str, str]) -> None:
        self.stack, self.sent, self.counts, self.pages = up, sent, counts, pages
        self.users = up.folder / "kafka" / "users"

    def settings(self, service: str) -> Settings:
        """Return what a service connects with: its own user."""
        settings = self.stack.settings
        name = user(STREAM.name, service)
        return access.settings(settings.broker, access.of_user(settings.broker_ca, name, self.users / name))

    def environment(self, service: str, **more: str) -> dict[str, str]:
        """Return the variables of a service that is started by hand."""
        given = {"THALWEG_DATA": str(self.stack.data), "THALWEG_BROKER": self.stack.broker.address}
        own = access.to_environment(access.of_user(self.stack.settings.broker_ca, user(STREAM.name, service), ""))
        own.pop("THALWEG_BROKER_PASSWORD_FILE")
        return access.without(os.environ) | given | own | more


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Bring a guarded run up, have flights go through, and end the services; the broker stays until the tests end."""
    options = Options("flights", broker="kafka", run_dir=tmp_path_factory.mktemp("guarded"), guarded=True, otlp="off")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack, "PORTS", dict(zip(stack.PORTS, brokers.free_ports(3), strict=True)))
        try:
            up = Stack(options, STREAM, SCHEMAS).__enter__()
        except BrokerUnavailable as lacking:
            if "apt-get install" not in str(lacking):
                raise
            pytest.skip(f"no broker kafka: {lacking}")
        try:
            sent, counts = play(up)
            asked = [(name, url + path) for name, url in up.answering.items() for path in ("/readyz", "/metrics")]
            pages = {f"{name} {url}": httpx.get(url, timeout=10).text for name, url in asked}
            up.children.stop(20.0, SERVICES)
            yield Run(up, sent, counts, pages)
        finally:
            up.__exit__(None, None, None)


def play(up: Stack) -> tuple[Sent, dict[str, int]]:
    """Send flights and their labels, and wait for all that is to come of them."""
    ledger = Ledger(up.settings, STREAM)
    with closing(ledger):
        flights = records(SCHEMAS, STREAM.name, EVENTS)
        sent = Replayer(STREAM, up.ingestion, flights, float("inf"), up.check).run(ledger.check)
        deadline = time.monotonic() + PATIENCE_S
        while not ledger.complete(sent) or learned(up.settings) < 2:
            assert time.monotonic() < deadline, ledger.counts(sent)
            up.check()
            ledger.check()
            time.sleep(0.2)
        return sent, ledger.counts(sent)


def learned(settings: Settings) -> int:
    """Return how many records `models` has."""
    found = [record for batch in read_all(settings, STREAM.topic("models")) for record in batch]
    return len([decode_event(record.value) for record in found])


# What works


def test_every_event_is_predicted_and_learned_from(run: Run) -> None:
    """With each service as its own user, flights have predictions, labels examples, and models come of them."""
    counts = run.counts
    assert len(run.sent.events) == EVENTS
    assert (counts["missing"], counts["duplicates"]) == (0, 0)
    assert counts["examples"] == counts["labels_sent"] > 0
    assert learned(run.stack.settings) >= 2


def test_no_service_shares_its_user(run: Run) -> None:
    """Nobody was the admin: each group's members, and whoever wrote, had the user of their service alone."""
    services = [child for child in run.stack.children if child.kind in SERVICES]
    environments = {child.name: run.stack.instances._own[child.kind] for child in services}
    users = {name: own["THALWEG_BROKER_USER"] for name, own in environments.items()}
    assert users == {service: f"flights.{service}" for service in SERVICES}
    assert all("THALWEG_BROKER_PASSWORD" not in own for own in environments.values())


def test_commands_get_in_as_the_operator(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that finds the run uses what the run has left, and reads what the operator may."""
    home = ["--run-dir", str(run.stack.options.run_dir)]
    assert cli.main(["models", "list", *home]) == 0
    assert "online@" in capsys.readouterr().out


# What is refused


@pytest.mark.parametrize("service", [*SERVICES, OPERATOR, FORGET])
def test_a_user_reads_and_writes_its_own_topics_and_no_other(run: Run, service: str) -> None:
    """The broker itself, asked for each topic by reading and by writing it, lets a user do what the table says."""
    granted = grants()[service]
    reads = set(TOPICS) if "*" in granted.reads else {*granted.reads, *granted.rewrites}
    own = set(OWN) if service in ("drift", OPERATOR) else set()
    settings = run.settings(service)
    assert readable(settings, EVERY_TOPIC) == {STREAM.topic(kind) for kind in reads} | own
    kept = set(OWN) if service == "drift" else set()
    writes = {STREAM.topic(kind) for kind in (*granted.writes, *granted.rewrites)}
    assert writable(settings, EVERY_TOPIC) == writes | kept


@pytest.mark.parametrize("service", SERVICES)
def test_a_user_has_the_groups_and_transactions_of_its_service_alone(run: Run, service: str) -> None:
    """No service moves another's offsets, or ends its transactions by taking their name."""
    settings, granted = run.settings(service), grants()
    names = {f"{STREAM.name}.{other}.9" for other in SERVICES} | {STREAM.topic(kind) for kind in ("commands", "models")}
    with ThreadPoolExecutor(4) as pool:
        begun = dict(zip(names, pool.map(lambda name: begins(settings, name), names), strict=True))
        topic = STREAM.topic(granted[service].reads[0])
        groups = [f"{STREAM.name}.{other}" for other in SERVICES]
        moved = dict(zip(groups, pool.map(lambda name: commits(settings, name, topic), groups), strict=True))
    own = {f"{STREAM.name}.{name.replace('*', '9')}" for name in granted[service].transactions}
    assert {name for name, done in begun.items() if done} == own & names
    group = {f"{STREAM.name}.{service}"} if granted[service].joins else set()
    assert {name for name, done in moved.items() if done} == group


@pytest.mark.parametrize("wrong", ["password", "authority", "name"])
def test_who_is_not_who_they_say_gets_no_further(run: Run, wrong: str, tmp_path: Path) -> None:
    """A wrong password, an authority that did not sign, another name than the certificate's: one message each."""

    def tried(service: str) -> str:
        right = run.settings(service)
        ca, address, word = right.broker_ca, right.broker, Path(right.broker_password_file).read_text()
        if wrong == "password":
            word = WRONG
        elif wrong == "authority":
            ca = str(authority.issue(tmp_path / service).authority)
        else:
            address = address.replace("127.0.0.1", "127.1")  # the same machine, by another name
        given = {"broker_ca": ca, "broker_user": right.broker_user, "broker_password": Secret(word)}
        with pytest.raises(Stop) as refused:
            knock(access.settings(address, given))
        assert word not in str(refused.value)
        return str(refused.value)

    with ThreadPoolExecutor(5) as pool:
        said = dict(zip(SERVICES, pool.map(tried, SERVICES), strict=True))
    for service, message in said.items():
        expected = {
            "password": f"the broker refuses user 'flights.{service}': correct THALWEG_BROKER_USER and its",
            "authority": f"is not signed by the authority in {tmp_path / service}",
            "name": "the certificate of the broker at 127.1:",
        }
        assert expected[wrong] in message, message
        assert (wrong == "name") == ("is for another name: dial a name that it is for" in message)


def test_a_service_that_is_refused_ends_and_says_what_to_do(run: Run) -> None:
    """Each kind of service, Faust's and the page's too, ends with one line that helps, and its log has no password."""

    def ended(service: str) -> str:
        environment = run.environment(service, THALWEG_BROKER_PASSWORD=WRONG)
        command = [sys.executable, "-m", f"services.{service}"]
        done = subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 1, done.stderr
        return done.stderr

    services = ("ingestion", "features", "drift", "console")
    with ThreadPoolExecutor(2) as pool:
        said = dict(zip(services, pool.map(ended, services), strict=True))
    for service, text in said.items():
        critical = [line for line in text.splitlines() if " CRITICAL " in line]
        assert len(critical) == 1, text
        assert f"the broker refuses user 'flights.{service}'" in critical[0]
        assert WRONG not in text


def test_a_user_without_a_rule_is_told_which_is_lacking(run: Run) -> None:
    """Whoever reads what is not theirs is told at once, and how it is allowed; it is not tried for a minute."""
    with closing(KafkaHistory(run.settings("ingestion"))) as history, pytest.raises(Stop) as refused:
        history.positions(STREAM.topic("examples"))
    assert "`thalweg acls` says how" in str(refused.value)


# Rules and passwords


def test_the_rules_are_there_and_no_more(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied again they are the same; a rule that somebody added by hand is found; who may not is told so."""
    ours, wanted = access.of_user(run.stack.settings.broker_ca, "admin", run.users / "admin"), rules("flights")
    admin = access.settings(run.stack.broker.address, ours)
    for name, value in access.to_environment(ours).items():
        monkeypatch.setenv(name, value)
    given = ["acls", "--stream", "flights", "--broker", run.stack.broker.address, "--apply"]
    assert cli.main(given) == 0
    assert f"{len(wanted)} rules for 11 users; 0 of them are new" in capsys.readouterr().out
    grant(admin, [wanted[0]._replace(name="flights.examples")])
    assert cli.main(given) == 1
    said = "beyond the rules: ALLOW User:flights.ingestion READ TOPIC LITERAL flights.examples"
    assert said in capsys.readouterr().out
    assert [said.endswith(line.partition(" from ")[0].partition("ALLOW")[2]) for line in beyond(admin, wanted)] == [
        True
    ]
    with pytest.raises(Stop, match=r"log in as one of the cluster's super.users"):
        grant(run.settings("console"), wanted)


def test_no_password_is_written_anywhere(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """No file that the run has left, but those made to hold them, has a password; no page, topic, report or command."""
    words = {file.name: file.read_text() for file in run.users.iterdir()}
    assert len(words) == 12
    assert all(len(word) >= 32 for word in words.values())
    assert {file.stat().st_mode & 0o77 for file in run.users.iterdir()} == {0}
    holding = {file for file in run.stack.folder.rglob("*") if file.is_file() and found(words, file.read_bytes())}
    assert holding == set(run.users.iterdir())
    looked = [child.log for child in run.stack.children]
    assert len(looked) > len(SERVICES)
    assert all(log.is_file() for log in looked)
    for name, page in run.pages.items():
        assert page, name
        assert not found(words, page.encode()), name
    for child in run.stack.children:
        assert not found(words, "\0".join(child.argv).encode())
    for topic in EVERY_TOPIC:
        told = [record for batch in read_all(run.settings(OPERATOR), topic) for record in batch]
        assert not any(found(words, part) for record in told for part in (record.key or b"", record.value)), topic
    for command in (["status", "--once"], ["doctor"], ["models", "list"]):
        cli.main([*command, "--run-dir", str(run.stack.options.run_dir)])
        said = "".join(capsys.readouterr())  # `models list` complains of what the tests above have written there
        assert said, command
        assert not found(words, said.encode()), command


# Forgetting, last: it changes the log, and ends the run


def test_who_forgets_may_and_the_operator_may_not(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`thalweg forget` gets into a guarded broker by the settings that services use; the operator changes nothing."""
    given = ["forget", "EWR", "--broker", run.stack.broker.address, "--run-dir", str(tmp_path)]

    def called_as(service: str) -> int:
        settings = run.settings(service)
        ours = access.of_user(settings.broker_ca, settings.broker_user, settings.broker_password_file)
        for name, value in access.to_environment(ours).items():
            monkeypatch.setenv(name, value)
        return cli.main(given)

    before = keyed(run.settings(OPERATOR))
    assert before["EWR"]
    assert called_as(OPERATOR) == 1
    assert "Log in as flights.forget, whose rules `thalweg acls --service forget` prints" in capsys.readouterr().err
    assert keyed(run.settings(OPERATOR)) == before
    assert called_as(FORGET) == 0, capsys.readouterr().err
    after = keyed(run.settings(OPERATOR))
    assert after == before | {"EWR": []}


def test_a_guarded_cluster_that_is_down_is_started_to_forget(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a broker named, that of the folder is started as it was, guarded, and is gone into as who may forget."""
    count = len(keyed(run.settings(OPERATOR))["LGA"])
    run.stack.__exit__(None, None, None)
    assert cli.main(["forget", "LGA", "--dry-run", "--run-dir", str(run.stack.options.run_dir)]) == 0
    said = capsys.readouterr().out
    assert count
    assert re.search(rf"^flights\.events +{count} records", said, re.MULTILINE), said
    assert re.search(r"^states of features in \S+ +[1-9]\d* files", said, re.MULTILINE), said


def keyed(settings: Settings) -> dict[str, list[bytes]]:
    """Return the events of each airport."""
    found: dict[str, list[bytes]] = {name: [] for name in ("EWR", "JFK", "LGA")}
    for batch in read_all(settings, STREAM.topic("events")):
        for record in batch:
            if (name := (record.key or b"").decode()) in found:
                found[name].append(record.value)
    return found


def found(words: Mapping[str, str], content: bytes) -> list[str]:
    return [name for name, word in words.items() if word.encode() in content]
