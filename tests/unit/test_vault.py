"""The vault of tokens: stable, sealed, bounded, and forgetful when asked."""

import threading
from pathlib import Path

import pytest

from services.runtime.errors import Retry
from services.runtime.vault import Vault


def test_a_token_outlives_its_process(tmp_path: Path) -> None:
    """Who opens the vault again gets the same token, and may look back with it."""
    (token,) = Vault(tmp_path).tokens("phone", ["555"])
    again = Vault(tmp_path)
    assert again.tokens("phone", ["555", "555"]) == [token, token]
    assert again.find("phone", "555") == token
    assert again.reveal(token) == ("phone", "555")
    assert again.find("email", "555") is None


def test_the_file_tells_nothing(tmp_path: Path) -> None:
    """A value is on no page of the file, and the file and the key are their owner's alone."""
    vault = Vault(tmp_path)
    vault.tokens("phone", [f"secret-{number}" for number in range(100)])
    vault.close()
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"secret-" not in held
    for path in (tmp_path / "vault" / "tokens.db", tmp_path / "keys" / "vault"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_full_vault_makes_no_token_and_keeps_those_it_has(tmp_path: Path) -> None:
    """What is more than the bound is a Retry, with nothing of the request made; known values go on."""
    vault = Vault(tmp_path, most=3)
    kept = vault.tokens("phone", ["1", "2"])
    with pytest.raises(Retry, match="2 tokens of at most 3: raise THALWEG_INGESTION_VAULT"):
        vault.tokens("phone", ["3", "4"])
    assert len(vault) == 2
    assert vault.tokens("phone", ["1", "2"]) == kept
    assert vault.forget(kept[0])
    assert len(vault.tokens("phone", ["3", "4"])) == 2


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    """The token stands for nothing any more, its row is off the disk, and the value would get another."""
    vault = Vault(tmp_path)
    token, other = vault.tokens("phone", ["1", "2"])
    assert vault.forget(token)
    assert not vault.forget(token)
    assert vault.reveal(token) is None
    assert vault.reveal(other) == ("phone", "2")
    held = b"".join(path.read_bytes() for path in (tmp_path / "vault").iterdir())
    assert token.encode() not in held
    assert vault.tokens("phone", ["1"]) != [token]


def test_writers_agree(tmp_path: Path) -> None:
    """Several that meet the same values at once hand out the same tokens."""
    vaults, found = [Vault(tmp_path) for _ in range(4)], []
    values = [str(number) for number in range(50)]

    def take(vault: Vault) -> None:
        found.append([vault.tokens("phone", [value])[0] for value in values])

    threads = [threading.Thread(target=take, args=[vault]) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(tokens == found[0] for tokens in found)
