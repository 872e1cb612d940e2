"""`thalweg keys`: a key is shown once, and the file that ingestion reads says the same as the list."""

from pathlib import Path

import pytest

from infra.cli import main
from services.ingestion.key_file import KeyFile, read_book
from services.ingestion.keys import Caller, Denied


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def call(place: Path, *arguments: str) -> int:
    return main(["keys", *arguments, "--file", str(place)])


def create(place: Path, *more: str) -> int:
    return call(place, "create", "airline", "--scopes", "events:write,labels:write", *more)


def known(place: Path, token: str, at: float = 0.0) -> Caller | Denied:
    ring = KeyFile(place).ring()
    assert ring is not None
    return ring.caller(token, at)


def test_a_key_is_shown_once_and_is_good(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`create` writes the key alone on standard output, `list` its id and rights; its secret is nowhere else."""
    assert create(place, "--records", "100", "--bytes", "1e6") == 0
    shown = capsys.readouterr()
    token = shown.out.strip()
    found = known(place, token)
    assert isinstance(found, Caller)
    assert found.grant is not None
    assert (found.grant.streams, found.grant.records_s, found.grant.bytes_s) == (["flights"], 100, 1e6)
    assert call(place, "list") == 0
    listed = capsys.readouterr().out
    assert f"{found.key}  airline  good" in listed
    assert "events:write, labels:write on flights, 100 records/s, 1e+06 bytes/s" in listed
    assert token[-43:] not in listed + shown.err + place.read_text()


def test_rotate_and_revoke(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both keys are good within the grace; revoked, none is; the list says each one's state."""
    create(place)
    first = capsys.readouterr().out.strip()
    assert call(place, "rotate", "airline", "--grace", "2h") == 0
    second = capsys.readouterr().out.strip()
    assert isinstance(known(place, first), Caller)
    assert isinstance(known(place, second), Caller)
    old, new = read_book(place).producers["airline"].keys
    assert old.ends is not None
    assert 7100 < (old.ends - new.created).total_seconds() <= 7200
    assert call(place, "revoke", new.id) == 0
    assert isinstance(known(place, first), Caller)
    assert isinstance(known(place, second), Denied)
    assert call(place, "revoke", "airline") == 0
    assert isinstance(known(place, first), Denied)
    capsys.readouterr()
    call(place, "list")
    assert capsys.readouterr().out.count("revoked 20") == 2


def test_a_key_may_go_to_a_file(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--to` writes it there, mode 0600 even where the file was open to all, and shows nothing."""
    to = tmp_path / "airline.key"
    to.touch(mode=0o644)
    assert create(place, "--to", str(to)) == 0
    shown = capsys.readouterr()
    token = to.read_text().strip()
    assert isinstance(known(place, token), Caller)
    assert to.stat().st_mode & 0o777 == 0o600
    assert token[-43:] not in shown.out + shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "airline", "--scopes", "events:write"), "keys rotate airline"),
        (("create", "other", "--scopes", "events:red"), "Invalid enum value"),
        (("create", "no good", "--scopes", "events:write"), "Expected `str` matching"),
        (("create", "other", "--scopes", "events:write", "--records", "-1"), "Expected `float`"),
        (("rotate", "other"), "there are: airline"),
        (("revoke", "other"), "no key 'other'"),
    ],
)
def test_what_can_not_be_done_is_said(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    """Exit status 1 and a line that says what is wrong: no key is shown, and the file stays as it was."""
    create(place)
    capsys.readouterr()
    before = place.read_bytes()
    assert call(place, *arguments) == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
    assert place.read_bytes() == before


def test_a_key_that_can_not_be_given_away_is_not_made(place: Path, tmp_path: Path) -> None:
    """Where `--to` can't be written, the file of the keys stays as it was."""
    assert create(place, "--to", str(tmp_path / "nowhere" / "airline.key")) == 1
    assert not place.exists()


def test_a_producer_that_is_there_may_be_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--if-missing` makes the first key, and afterwards changes and shows nothing: a start may call it each time."""
    assert create(place, "--if-missing") == 0
    assert capsys.readouterr().out.startswith("thalweg_")
    before = place.read_bytes()
    assert create(place, "--if-missing") == 0
    assert capsys.readouterr().out == ""
    assert place.read_bytes() == before


def test_a_list_of_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no file, the list says what that means."""
    assert call(place, "list") == 0
    assert "lets everybody in, on this machine alone" in capsys.readouterr().out
