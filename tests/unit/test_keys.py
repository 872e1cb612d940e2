"""API keys: who is known by one, what it is good for, how the file changes and what of it is believed."""

import hashlib
import hmac
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.ingestion import issuing, keys
from services.ingestion.issuing import Fresh
from services.ingestion.key_file import KeyFile, change, draw, read_book
from services.ingestion.keys import Book, Caller, Denied, Keyring, Producer, forbidden
from services.runtime.errors import ConfigError

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
AT = NOW.timestamp()
GRACE = timedelta(minutes=15)
WRITER = Producer(["events:write"], ["flights"])


def fresh() -> Fresh:
    return draw()


def known(book: Book, token: str | None, at: float = AT) -> Caller | Denied:
    return Keyring(book.producers).caller(token, at)


def reason(found: Caller | Denied) -> str:
    assert isinstance(found, Denied), found
    assert found.status == 401
    return found.reason


def test_a_key_is_known_and_nothing_that_is_like_it() -> None:
    """The right key names its producer; no key, another form, another id, another secret: 401, each with its reason."""
    mine, other = fresh(), fresh()
    book = issuing.create(issuing.create(Book(), "a", WRITER, mine, NOW), "b", WRITER, other, NOW)
    assert known(book, mine.token) == Caller(mine.id, "a", book.producers["a"])
    assert reason(known(book, None)) == "none"
    for wrong in ("", mine.secret, mine.token[:-1], mine.token + "A", mine.token.upper(), "ä" * 64):
        assert reason(known(book, wrong)) == "malformed"
    assert reason(known(book, fresh().token)) == "unknown"
    assert reason(known(book, Fresh(mine.id, other.secret).token)) == "mismatch"
    assert reason(known(Book(), mine.token)) == "unknown"


def test_strangers_are_told_nothing_that_helps() -> None:
    """An id that is somebody's and one that is nobody's are answered alike."""
    mine = fresh()
    book = issuing.create(Book(), "a", WRITER, mine, NOW)
    answers = {
        found.message
        for token in (fresh().token, Fresh(mine.id, fresh().secret).token, "x")
        if isinstance(found := known(book, token), Denied)
    }
    assert len(answers) == 1


@pytest.mark.parametrize("form", ["right", "wrong secret", "wrong id"])
def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Whatever has the form of a key is hashed and goes through `hmac.compare_digest`, whose word is final."""
    mine = fresh()
    token = {"right": mine, "wrong secret": Fresh(mine.id, fresh().secret), "wrong id": fresh()}[form].token
    ring = Keyring(issuing.create(Book(), "a", WRITER, mine, NOW).producers)
    compared: list[tuple[bytes, bytes]] = []
    said = True

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return said

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    assert isinstance(ring.caller(token, AT), Caller)
    said = False
    assert isinstance(ring.caller(token, AT), Denied)
    assert len(compared) == 2
    assert all(hashlib.sha256(token[-43:].encode()).digest() == one for one, _ in compared)
    assert {len(other) for _, other in compared} == {32}
    assert hmac.compare_digest is compare  # the spy was where the code looks


def test_rotation_lets_the_old_key_live_for_its_grace() -> None:
    """Both keys are good until the grace is over, then the new one alone; a second rotation prolongs nothing."""
    first, second, third = fresh(), fresh(), fresh()
    book = issuing.rotate(issuing.create(Book(), "a", WRITER, first, NOW), "a", second, NOW, GRACE)
    end = AT + GRACE.total_seconds()
    for at in (AT, end - 0.001):
        assert isinstance(known(book, first.token, at), Caller)
        assert isinstance(known(book, second.token, at), Caller)
    assert reason(known(book, first.token, end)) == "ended"
    assert isinstance(known(book, second.token, end), Caller)
    again = issuing.rotate(book, "a", third, NOW + GRACE / 2, GRACE)
    assert reason(known(again, first.token, end)) == "ended"
    assert isinstance(known(again, second.token, end), Caller)


def test_a_revoked_key_is_good_no_more() -> None:
    """Revoking by id ends one key at once, by the producer's name all that it has; what has none is an error."""
    first, second, other = fresh(), fresh(), fresh()
    book = issuing.create(Book(), "a", WRITER, first, NOW)
    book = issuing.create(issuing.rotate(book, "a", second, NOW, GRACE), "b", WRITER, other, NOW)
    one, gone = issuing.revoke(book, first.id, NOW)
    assert gone == [first.id]
    assert reason(known(one, first.token)) == "revoked"
    assert isinstance(known(one, second.token), Caller)
    every, gone = issuing.revoke(one, "a", NOW)
    assert gone == [second.id]
    assert reason(known(every, second.token)) == "revoked"
    assert isinstance(known(every, other.token), Caller)
    with pytest.raises(ValueError, match="not revoked"):
        issuing.revoke(every, "a", NOW)
    kept = issuing.rotate(every, "a", fresh(), NOW, GRACE)
    assert reason(known(kept, second.token)) == "revoked"


def test_who_was_let_in_is_looked_at_again() -> None:
    """A caller of before is refused once its key was revoked, has ended or is gone; else it stays."""
    mine = fresh()
    book = issuing.create(Book(), "a", WRITER, mine, NOW)
    caller = known(book, mine.token)
    assert isinstance(caller, Caller)
    assert Keyring(book.producers).again(caller, AT) is None
    for changed in (issuing.revoke(book, "a", NOW)[0], issuing.rotate(book, "a", fresh(), NOW, -GRACE), Book()):
        assert isinstance(Keyring(changed.producers).again(caller, AT), Denied)


@pytest.mark.parametrize("scope", keys.SCOPES)
@pytest.mark.parametrize(("streams", "here"), [(["flights"], True), (["bikes", "*"], True), (["bikes"], False)])
def test_a_key_is_good_for_its_scopes_on_its_streams(scope: keys.Scope, streams: list[str], here: bool) -> None:  # noqa: FBT001
    """403 for another scope and for another stream; what is named is allowed, and nothing else."""
    for granted in keys.SCOPES:
        denied = forbidden(Caller("0", "a", Producer([granted], streams)), scope, "flights")
        assert (denied is None) == (granted == scope and here)
        if denied is not None:
            assert (denied.status, denied.reason) == (403, "stream" if granted == scope else "scope")


def test_a_producer_has_one_name() -> None:
    """A second producer of a name, and the rotation of one that is not there, are refused and say what to do."""
    book = issuing.create(Book(), "a", WRITER, fresh(), NOW)
    with pytest.raises(ValueError, match="keys rotate a"):
        issuing.create(book, "a", WRITER, fresh(), NOW)
    with pytest.raises(ValueError, match="there are: a"):
        issuing.rotate(book, "b", fresh(), NOW, GRACE)


# The file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ingestion" / "keys.json"


def add(path: Path, name: str, grant: Producer = WRITER) -> str:
    """Give a producer a key; return it."""
    mine = fresh()
    change(path, lambda book: issuing.create(book, name, grant, mine, NOW))
    return mine.token


def test_the_file_has_no_secret_and_is_its_owners_alone(path: Path) -> None:
    """On disk there is the hash: neither key nor secret, in no file of the folder; the mode is 0600."""
    token = add(path, "a")
    assert path.stat().st_mode & 0o777 == 0o600
    for file in path.parent.iterdir():
        assert token[-43:].encode() not in file.read_bytes()
    assert read_book(path).producers["a"].keys[0].sha256 == hashlib.sha256(token[-43:].encode()).hexdigest()


def test_no_repr_has_a_secret() -> None:
    """A key that was just drawn doesn't show its secret."""
    mine = fresh()
    assert mine.secret not in f"{mine!r} {mine}"


def test_keys_are_drawn_at_random() -> None:
    """256 bits: no two keys are alike, and each has the form that is let in."""
    drawn = [draw() for _ in range(200)]
    assert len({one.secret for one in drawn}) == len({one.id for one in drawn}) == 200
    assert all(len(one.token) == 64 for one in drawn)


def test_a_change_is_seen_at_the_next_look(path: Path) -> None:
    """No file: nobody needs a key. Then each change of it is in force at once, without a restart."""
    file = KeyFile(path)
    assert file.ring() is None
    first = add(path, "a")
    ring = file.ring()
    assert ring is not None
    assert isinstance(ring.caller(first, AT), Caller)
    second = add(path, "b")
    change(path, lambda book: issuing.revoke(book, "a", NOW)[0])
    ring = file.ring()
    assert ring is not None
    assert reason(ring.caller(first, AT)) == "revoked"
    assert isinstance(ring.caller(second, AT), Caller)
    assert file.ring() is ring  # it is not read again for nothing


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("{"), lambda path: path.chmod(0o644)])
def test_nothing_opens_by_an_accident(
    path: Path, spoil: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is gone, broken or open to others later on is complained of: the keys before stay in force."""
    token = add(path, "a")
    file = KeyFile(path)
    spoil(path)
    for _ in range(3):
        ring = file.ring()
        assert ring is not None
        assert isinstance(ring.caller(token, AT), Caller)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"{", 0o600, "no file of keys"),
        (b'{"producers": {"a": {"scopes": ["all"], "streams": ["*"]}}}', 0o600, "scopes"),
        (b'{"producers": {"a": {"scopes": [], "streams": ["*"]}}}', 0o600, "scopes"),
        (b'{"producers": {"a b": {"scopes": ["events:write"], "streams": ["*"]}}}', 0o600, "keys"),
        (b'{"producers": {"a": {"scopes": ["events:write"], "streams": ["*"], "records_s": 0}}}', 0o600, "records_s"),
        (b'{"producer": {}}', 0o600, "producer"),
        (b"{}", 0o644, "chmod 600"),
        (b"{}", 0o602, "chmod 600"),
        (b"{}", 0o620, "chmod 600"),
    ],
)
def test_a_file_that_is_not_right_is_refused_at_the_start(path: Path, content: bytes, mode: int, said: str) -> None:
    """What is no such file, allows what there is not, or can be written by others: ConfigError, with the place."""
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=said):
        KeyFile(path)


def test_a_mounted_secret_is_read(path: Path) -> None:
    """Its group may read it, as orchestrators mount secrets; a file without keys lets nobody in."""
    path.parent.mkdir()
    path.write_bytes(b"{}")
    path.chmod(0o440)
    ring = KeyFile(path).ring()
    assert ring is not None
    assert reason(ring.caller(None, AT)) == "none"


def test_two_keys_of_one_id_are_refused(path: Path) -> None:
    """An id names one key: a file where it names two is not read."""
    one = fresh().kept(NOW)
    book = Book({"a": msgspec.structs.replace(WRITER, keys=[one, one])})
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(book))
    with pytest.raises(ConfigError, match="one id"):
        KeyFile(path)


def test_what_could_not_be_read_is_not_written(path: Path) -> None:
    """A change to what is no book leaves the file as it was."""
    add(path, "a")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="records_s"):
        add(path, "b", Producer(["events:write"], ["flights"], -1.0))
    assert path.read_bytes() == before
    assert not [file for file in path.parent.iterdir() if str(os.getpid()) in file.name]


def test_changes_at_once_all_count(path: Path) -> None:
    """Many that change the file at the same time: none is lost, and whoever reads meanwhile finds it whole."""
    add(path, "first")
    file, wrong = KeyFile(path), []
    threads = [threading.Thread(target=add, args=(path, f"p{number}")) for number in range(12)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if file.ring() is None:
            wrong.append("none")
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(read_book(path).producers) == 13
