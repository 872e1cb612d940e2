"""A run that begins anew takes away what came of the log that is gone, and nothing that others rely on."""

import datetime as dt
from pathlib import Path

from infra.local.leavings import clear
from infra.local.lending import lent
from services.console.tokens import make_tokens, tokens_path
from services.ingestion.key_file import change, draw, keys_path, read_book
from services.ingestion.keys import Book, Producer
from services.runtime.pii import secret_of
from services.runtime.signing import Signer, make_keys
from services.runtime.vault import Vault

MADE = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
OF_THE_LOG = ("logs/features.log", "triton/models/m/config.pbtxt", "kafka/cluster.json", "data/console/spans.db")
OF_THE_LOG += ("data/state/flights/features/0/1.snapshot", "data/artifacts/online/1", "data/store/flights/x.parquet")


def test_what_is_the_installation_s_stays(tmp_path: Path) -> None:
    """Signing keys, those of personal data, its vault, producers' keys and the console's tokens stay as they are.

    What was made of the log goes, and is named; a folder where nothing was has nothing to say.
    """
    data = tmp_path / "data"
    assert clear(tmp_path) == []
    make_keys(data / "keys")
    sealed, pii = Signer(data / "keys").seal("a", b"b"), secret_of(data, "pii")
    (token,) = Vault(data).tokens("phone", ["+44"])
    tokens = make_tokens(tokens_path(data))[0]
    change(keys_path(data), lambda _: Book({"airline": Producer(["events:write"], ["flights"])}))
    book = read_book(keys_path(data))
    for name in OF_THE_LOG:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    gone = clear(tmp_path)
    assert gone == ["data/artifacts", "data/console/spans.db", "data/state", "data/store", "kafka", "logs", "triton"]
    assert not any((tmp_path / name).exists() for name in OF_THE_LOG)
    assert Signer(data / "keys").seal("a", b"b") == sealed
    assert secret_of(data, "pii") == pii
    assert Vault(data).reveal(token) == ("phone", "+44")
    assert make_tokens(tokens_path(data)) == (tokens, False)
    assert read_book(keys_path(data)) == book
    assert clear(tmp_path) == []


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    """Nothing outside the run's folder is touched."""
    outside, folder = tmp_path / "outside", tmp_path / "run"
    for path in (outside, folder):
        path.mkdir()
    (outside / "kept").touch()
    (folder / "link").symlink_to(outside)
    assert clear(folder) == ["link"]
    assert (outside / "kept").exists()


def test_a_lent_key_is_taken_away_again(tmp_path: Path) -> None:
    """Where the door asks for keys the demo has one that sends to its stream alone; where it does not, none is made."""
    file = keys_path(tmp_path)
    with lent(file, "flights") as key:
        assert key is None
    assert not file.exists()
    change(file, lambda _: Book({"airline": Producer(["events:write"], ["flights"], keys=[draw().kept(MADE)])}))
    before = read_book(file)
    with lent(file, "flights") as key:
        (mine,) = [one for name, one in read_book(file).producers.items() if name not in before.producers]
        assert key is not None
        assert mine.keys[0].id in key
        assert (mine.scopes, mine.streams) == (["events:write", "labels:write"], ["flights"])
    assert read_book(file) == before
