"""`thalweg forget KEY`: a key goes from the topics, and from all that was made of them; `thalweg reveal TOKEN`."""

import argparse
import getpass
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException
from msgspec.structs import replace

from infra.commands.connection import add_log
from infra.forgetting import files
from infra.forgetting.person import KINDS, Person
from infra.forgetting.rewriting import Cluster, refilled, spooled
from infra.forgetting.spool import Spool
from infra.kafka import guarding
from infra.kafka.acls import FORGET, user
from infra.local import access, brokers
from infra.local.access import Access
from infra.local.processes import Children
from infra.local.stack import claim
from services.runtime.errors import Stop
from services.runtime.history import KafkaHistory
from services.runtime.kafka import REFUSED
from services.runtime.pii import open_masker
from services.runtime.settings import Settings
from services.runtime.stores import open_store
from services.runtime.stream import Stream, load_stream
from services.runtime.treatments import TOKEN
from services.runtime.vault import Vault

READY_S = 300.0  # a broker whose log is large, or was not closed, takes a while to look through it
MOST = 64  # partitions that are looked at where no broker says how many there are
ABOUT = """\
The services of the stream, and who writes to its topics, must be down: they hold the key in memory. Topics of Apache
Kafka are written again without it, every other record at its old offset; what was folded is dropped and folded again at
the next start. A run that is killed is finished by calling it again. Exit status 0: nothing of the key is left but what
was said to be; 1: something is. Models hold weights, not rows: one that learned from the key's examples stays as it is
until it is trained anew (thalweg train, once this is done). A Kafka with rules is gone into as the user STREAM.forget,
with THALWEG_BROKER_CA, _USER and _PASSWORD_FILE."""


class Line(NamedTuple):
    """A line of the table: where, what was removed, what is left and until when."""

    where: str
    removed: str
    left: str = "nothing"


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("forget", help="remove a key from topics, states, table and traces", epilog=ABOUT)
    parser.add_argument("key", metavar="KEY", help="as it was sent, or as it is on the log")
    add_log(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    parser.add_argument("--snapshots", default=os.environ.get("THALWEG_SNAPSHOTS", ""), help="as THALWEG_SNAPSHOTS")
    store = os.environ.get("THALWEG_TRAINER_STORE", "")
    parser.add_argument("--store", default=store, help="as THALWEG_TRAINER_STORE, a folder")
    parser.set_defaults(run=_forget)
    looking = commands.add_parser("reveal", help="say for which value a token stands; who asked is written down")
    looking.add_argument("token", metavar="TOKEN")
    add_log(looking)
    looking.set_defaults(run=_reveal)


def _forget(given: argparse.Namespace) -> int:
    stream = load_stream(given.schemas, given.stream)
    data = given.run_dir / stream.name / "data"
    with claim(given.run_dir, stream.name), _broker(given, stream, data) as settings:
        forgetting = Forgetting(given, stream, data, settings)
        lines = _permitted(stream, forgetting.run)
    _show(lines, "would be removed" if given.dry_run else "removed")
    return 1 if forgetting.left else 0


def _permitted(stream: Stream, run: Callable[[], list[Line]]) -> list[Line]:
    try:
        return run()
    except KafkaException as error:
        if error.args[0].code() not in REFUSED:
            raise
        raise Stop(
            f"the broker refuses it: {error.args[0].str()}. Log in as {user(stream.name, FORGET)}, whose rules"
            " `thalweg acls --service forget` prints, and call it again: what was begun is finished then"
        ) from error


class Forgetting:
    """One call of the command. Whom it forgets is on disk until it is done, so that another call can finish it."""

    def __init__(self, given: argparse.Namespace, stream: Stream, data: Path, settings: Settings | None) -> None:
        self._given, self._stream, self._data, self._settings = given, stream, data, settings
        self._remove = not given.dry_run
        self._folder = data / "forgetting"
        self._person = self._begin(_stand_in(stream, data, given.key))
        self.left: list[Path] = []

    def run(self) -> list[Line]:
        lines = self._topics(self._settings) if self._settings else [_no_topics(self._given)]
        lines += [*self._states(), self._examples(), self._spans(), self._vault()]
        return [*lines, *self._rest()]

    # Whom

    def _begin(self, key: str) -> Person:
        try:
            found = msgspec.msgpack.decode((self._folder / "person").read_bytes(), type=Person)
        except FileNotFoundError:
            return Person(key)
        if found.key != key:
            raise ValueError(f"{found.key!r} is not forgotten altogether yet: call it for that one first")
        return found

    def _note(self) -> None:
        if self._remove:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._folder / "person").write_bytes(msgspec.msgpack.encode(self._person))

    # Where

    def _topics(self, settings: Settings) -> list[Line]:
        prefix = f"{self._stream.name}."
        with closing(Cluster(settings)) as cluster, closing(KafkaHistory(settings)) as history:
            if busy := cluster.members(prefix):
                raise ValueError(f"these are up, and hold the key in memory: {', '.join(busy)}; stop them first")
            spools = {kind: Spool(self._folder / kind) for kind in KINDS}
            for spool in spools.values() if self._remove else ():
                refilled(cluster, spool)
            there = [kind for kind in KINDS if self._stream.topic(kind) in cluster.topics()]
            self._meet(history, [kind for kind in there if kind in ("events", "labels")])
            return [self._topic(cluster, history, kind, spools[kind]) for kind in there]

    def _meet(self, history: KafkaHistory, kinds: list[str]) -> None:
        for kind in kinds:
            for batch in history.read_topic(self._stream.topic(kind)):
                for record in batch:
                    self._person.meet(self._stream, record)
        self._note()

    def _topic(self, cluster: Cluster, history: KafkaHistory, kind: str, spool: Spool) -> Line:
        topic = self._stream.topic(kind)
        batches = (record for batch in history.read_topic(topic) for record in batch)
        touched = sum(self._person.without(self._stream, kind, record) is not record for record in batches)
        if touched and self._remove:
            prefix = f"{self._stream.name}."
            spooled(cluster, history, spool, topic, prefix, lambda one: self._person.without(self._stream, kind, one))
            refilled(cluster, spool)
        files = "nothing; the broker deletes its old files within a minute, or log.segment.delete.delay.ms"
        return Line(topic, f"{touched} records", files if touched and self._given.broker else "nothing")

    def _states(self) -> list[Line]:
        stores = {where: open_store(where) for where in self._places()}
        found = {
            f"{service} in {where}": count
            for where, store in stores.items()
            for service, count in files.states(
                store, self._stream.name, MOST, self._person.needles, remove=self._remove
            ).items()
        }
        said = "nothing; they are folded anew from the log at the next start"
        return [Line(f"states of {name}", f"{count} files", said) for name, count in found.items()] or [
            Line("states of features and labels", "0 files")
        ]

    def _places(self) -> list[str]:
        own = [str(self._data / "state"), str(self._data / "segments")]
        return [*own, *([self._given.snapshots] if self._given.snapshots else [])]

    def _examples(self) -> Line:
        root = self._given.store or str(self._data / "store")
        rows = files.examples(root, self._stream.name, self._person.key, remove=self._remove)
        return Line(f"examples in {root}", f"{rows} rows", "nothing; older versions of the table went with them")

    def _spans(self) -> Line:
        path = self._data / "console" / "spans.db"
        words = {self._person.key, *self._person.ids}
        return Line("spans of the console", f"{files.spans(path, words, remove=self._remove)} spans")

    def _vault(self) -> Line:
        if not (self._data / "vault" / "tokens.db").exists():
            return Line("vault of tokens", "no vault")
        mine = self._person.tokens - self._person.others
        if self._person.key.startswith(TOKEN):
            mine.add(self._person.key)
        with closing(Vault(self._data)) as vault:
            gone = [token for token in mine if (vault.forget(token) if self._remove else vault.reveal(token))]
        return Line("vault of tokens", f"{len(gone)} tokens")

    def _rest(self) -> list[Line]:
        """Look through all files for what is left: the command believes no word of its own."""
        folders = [self._data, self._given.run_dir / self._stream.name / "logs"]
        mine = {self._folder}
        if self._remove:
            self.left = files.still_there(folders, self._person.needles, mine)
            shutil.rmtree(self._folder, ignore_errors=True)
        models = Line("models", "0", "weights that learned from the key's examples, until they are trained anew")
        return [*(Line(str(path), "nothing", "the key or an id, until you remove it") for path in self.left), models]


def _no_topics(given: argparse.Namespace) -> Line:
    return Line("topics", "none", f"no log in {given.run_dir}: the embedded broker's is gone with its run; or --broker")


def _stand_in(stream: Stream, data: Path, key: str) -> str:
    """Return the key as it is on the log."""
    done = stream.marks("event").get(stream.key)
    if done == "tokenise" and not key.startswith(TOKEN) and (data / "vault" / "tokens.db").exists():
        with closing(Vault(data)) as vault:
            return vault.find(stream.key, key) or key
    return str(open_masker(stream, data).value(stream.key, key)) if done == "hash" else key


@contextmanager
def _broker(given: argparse.Namespace, stream: Stream, data: Path) -> Iterator[Settings | None]:
    """Yield what a client of the log reads from: the broker that was named, or the Kafka of this folder, started.

    The environment says what lets us into the one, as it does for services; in the other we are who may forget.
    """

    def settings(address: str, ours: Access) -> Settings:
        return replace(access.settings(address, ours), stream=stream.name, schemas=given.schemas, data=data)

    home = given.run_dir / stream.name / "kafka"
    if given.broker or not (home / "cluster.json").exists():
        yield settings(given.broker, access.from_environment(os.environ)) if given.broker else None
        return
    kept = json.loads((home / "cluster.json").read_bytes())
    with Children(home.parent / "logs") as children:
        broker = brokers.kafka(children, home.parent, kept["nodes"], guarded=kept["guarded"])
        brokers.wait_ready(broker, children, READY_S)
        users = guarding.prepare(broker.settings, stream.name, home / "users") if kept["guarded"] else {}
        yield settings(broker.address, users.get(FORGET, {}))
    for old in home.glob("*/data/*-delete"):  # what it would have deleted in a minute
        shutil.rmtree(old)


def _show(lines: list[Line], removed: str) -> None:
    rows = [Line("where", removed, "left, and until when"), *lines]
    wide = [max(len(line[column]) for line in rows) for column in (0, 1)]
    for line in rows:
        print(f"{line.where:<{wide[0]}}  {line.removed:<{wide[1]}}  {line.left}")


def _reveal(given: argparse.Namespace) -> int:
    data = given.run_dir / given.stream / "data"
    if not (data / "vault" / "tokens.db").exists():
        raise ValueError(f"no vault of tokens in {data}")
    with closing(Vault(data)) as vault:
        found = vault.reveal(given.token)
    _write_down(data / "vault" / "asked.jsonl", given.token, known=found is not None)
    if found is None:
        raise ValueError("nobody knows for what this token stands: it is another installation's, or was forgotten")
    print(f"{found[0]}: {found[1]}")
    return 0


def _write_down(path: Path, token: str, *, known: bool) -> None:
    line = {"at": int(time.time()), "who": getpass.getuser(), "token": token, "known": known}
    with open(path, "a", opener=lambda name, flags: os.open(name, flags, 0o600), encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
