"""`thalweg keys create|list|rotate|revoke`: who may send and read over HTTP. A running ingestion sees it at once."""

import argparse
import datetime as dt
import os
import sys
from pathlib import Path
from typing import Any

from infra.local.stack import REPOSITORY
from services.ingestion import issuing
from services.ingestion.issuing import Fresh
from services.ingestion.key_file import change, draw, keys_path, read_book
from services.ingestion.keys import SCOPES, Book, Key, Producer
from services.runtime.grammar import Duration

ABOUT = """\
A key is shown once, alone on standard output, and only its hash is kept. Ingestion reads the file again when it has
changed: nothing is restarted and no request is lost. Without a file it lets everybody in, and listens on this machine
alone; with one, and be there no key in it, nobody comes in without."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    parser = commands.add_parser("keys", help="make, list, rotate or revoke the API keys of producers", epilog=ABOUT)
    actions = parser.add_subparsers(required=True, metavar="create|list|rotate|revoke")
    creating = actions.add_parser("create", help="have a new producer, and show its first key")
    listing = actions.add_parser("list", help="a line per key: whose it is, what it is good for, until when")
    rotating = actions.add_parser("rotate", help="show a producer's next key; those before are good for a while yet")
    revoking = actions.add_parser("revoke", help="end a key, or all keys of a producer, at once")
    for action, run in ((creating, _create), (listing, _list), (rotating, _rotate), (revoking, _revoke)):
        _add_place(action)
        action.set_defaults(run=run)
    creating.add_argument("name", metavar="PRODUCER", help="as it is to be called in lists, logs and quotas")
    creating.add_argument("--scopes", required=True, type=_list_of, metavar="S,...", help=f"of {', '.join(SCOPES)}")
    creating.add_argument("--streams", type=_list_of, metavar="S,...", help="on which streams (--stream); *: on each")
    creating.add_argument("--records", type=float, metavar="N", help="that it may send a second (as many as are taken)")
    creating.add_argument("--bytes", type=float, metavar="N", help="that it may send a second, inflated")
    creating.add_argument("--if-missing", action="store_true", help="do nothing, and say so, if the producer is there")
    rotating.add_argument("name", metavar="PRODUCER")
    rotating.add_argument("--grace", type=Duration, default=Duration("1h"), metavar="T", help="90s, 15m, 1h or 2d (1h)")
    revoking.add_argument("which", metavar="KEY|PRODUCER", help="a key's id, as in the list, or a producer")
    for action in (creating, rotating):
        action.add_argument(
            "--to", type=Path, metavar="FILE", help="write the key there, mode 0600, and do not show it"
        )


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stream", default="flights", metavar="S", help="whose run's file it is (flights)")
    parser.add_argument("--run-dir", type=Path, default=REPOSITORY / ".run", help="where runs keep data and logs")
    parser.add_argument("--file", type=Path, metavar="FILE", help="the file of the keys (that of the run)")


def _place(given: argparse.Namespace) -> Path:
    found: Path = given.file or keys_path(given.run_dir / given.stream / "data")
    return found


def _book(given: argparse.Namespace) -> Book:
    path = _place(given)
    return read_book(path) if path.exists() else Book()


def _expect_room(given: argparse.Namespace) -> None:
    """Raise ValueError if a key could not be given away: it would be lost."""
    try:
        if given.to is not None:
            given.to.touch(mode=0o600)
    except OSError as error:
        raise ValueError(f"{given.to}: no key can be written there: {error.strerror}") from error


def _list_of(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def _create(given: argparse.Namespace) -> int:
    if given.if_missing and given.name in _book(given).producers:
        print(f"{given.name} is there already", file=sys.stderr)
        return 0
    _expect_room(given)
    granted = Producer(given.scopes, given.streams or [given.stream], given.records, given.bytes)
    fresh = draw()
    change(_place(given), lambda book: issuing.create(book, given.name, granted, fresh, _now()))
    _hand_over(given, fresh, f"{given.name}: {_granted(granted)}")
    return 0


def _rotate(given: argparse.Namespace) -> int:
    _expect_room(given)
    fresh, grace = draw(), dt.timedelta(seconds=given.grace.seconds)
    change(_place(given), lambda book: issuing.rotate(book, given.name, fresh, _now(), grace))
    _hand_over(given, fresh, f"{given.name}: its keys before are good for {given.grace.text} more")
    return 0


def _revoke(given: argparse.Namespace) -> int:
    gone: list[str] = []

    def revoke(book: Book) -> Book:
        changed, ids = issuing.revoke(book, given.which, _now())
        gone.extend(ids)
        return changed

    change(_place(given), revoke)
    print(f"revoked: {', '.join(gone)}")
    return 0


def _hand_over(given: argparse.Namespace, fresh: Fresh, said: str) -> None:
    """Give a key away, once."""
    if given.to is None:
        print(fresh.token, flush=True)
        where = "it is shown this once"
    else:
        descriptor = os.open(given.to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(f"{fresh.token}\n")
        where = f"it is in {given.to}"
    print(f"{said}; key {fresh.id}: {where}, and {_place(given)} has its hash", file=sys.stderr)


def _list(given: argparse.Namespace) -> int:
    path, now = _place(given), _now()
    if not path.exists():
        print(f"{path} is not there: ingestion lets everybody in, on this machine alone")
        return 0
    for name, producer in sorted(read_book(path).producers.items()):
        for key in producer.keys:
            made = key.created.isoformat()
            print(f"{key.id}  {name}  {_state(key, now)}  made {made}  {_granted(producer)}")
    return 0


def _state(key: Key, now: dt.datetime) -> str:
    if key.revoked is not None:
        return f"revoked {key.revoked.isoformat()}"
    if key.ends is None:
        return "good"
    return f"{'ended' if key.ends <= now else 'good until'} {key.ends.isoformat()}"


def _granted(producer: Producer) -> str:
    quotas = ((producer.records_s, "records/s"), (producer.bytes_s, "bytes/s"))
    most = [f"{rate:g} {what}" for rate, what in quotas if rate is not None] or ["no quota"]
    return f"{', '.join(producer.scopes)} on {', '.join(producer.streams)}, {', '.join(most)}"
