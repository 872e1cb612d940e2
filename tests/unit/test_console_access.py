"""Who may look and who may act: what a token, a cookie and a page's word are good for."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from services.console.access import LASTS_S, Access, Tokens

TOKENS = Tokens("r" * 32, "a" * 32, "k" * 32)
NOW = 1_800_000_000.0


@pytest.fixture
def access() -> Access:
    return Access(TOKENS)


def test_each_token_is_good_for_its_own(access: Access) -> None:
    """The reading token looks, the acting one acts, and nothing else does either: the signing key least of all."""
    assert (access.level("r" * 32), access.level("a" * 32)) == ("reading", "acting")
    for other in ("", "r" * 31, "r" * 33, "k" * 32, "R" * 32, "\udcff"):
        assert access.level(other) is None


@pytest.mark.parametrize("level", ["reading", "acting"])
def test_a_session_is_good_until_it_ends(access: Access, level: str) -> None:
    """A cookie says its level until its time is over, and is nobody's after."""
    cookie = access.cookie(level, NOW, "n")  # type: ignore[arg-type]
    assert access.session(cookie, NOW + LASTS_S - 1) == level
    assert access.session(cookie, NOW + LASTS_S + 1) is None


@given(st.text(max_size=80))
def test_no_made_up_cookie_opens(cookie: str) -> None:
    """Whatever is sent as a cookie, only what was signed with the key is a session."""
    assert Access(TOKENS).session(cookie, 0.0) is None


def test_a_changed_cookie_is_no_session(access: Access) -> None:
    """Neither the level nor the end of a signed cookie can be changed; another installation's key signs nothing."""
    cookie = access.cookie("reading", NOW, "n")
    _, ends, rest = cookie.split(".", 2)
    assert access.session(f"acting.{ends}.{rest}", NOW) is None
    assert access.session(f"reading.{int(ends) + 9}.{rest}", NOW) is None
    assert Access(Tokens("r" * 32, "a" * 32, "x" * 32)).session(cookie, NOW) is None


def test_the_page_of_one_session_can_not_speak_for_another(access: Access) -> None:
    """A CSRF token belongs to its session, and is no session by itself."""
    mine, other = access.cookie("acting", NOW, "1"), access.cookie("acting", NOW, "2")
    assert access.says(mine, access.csrf(mine))
    assert not access.says(other, access.csrf(mine))
    assert not access.says(mine, "")
    assert access.session(access.csrf(mine), NOW) is None


def test_tokens_do_not_show() -> None:
    """A repr, which may end in a log, has no token in it."""
    assert not {"r" * 32, "a" * 32, "k" * 32} & set(repr(TOKENS).replace("'", " ").split())
    assert "rrr" not in f"{TOKENS} {TOKENS!r}"
