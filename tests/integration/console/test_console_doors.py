"""The console as a process on a real broker: who may do what there."""

from typing import Any

import httpx
import pytest

from tests.consoles import Running


@pytest.mark.parametrize(
    "path", ["live", "quality", "models", "alerts", "drift", "dead", "dead/0/0", "predictions/x", "traces", "settings"]
)
def test_nobody_looks_without_a_token(console: Running, path: str) -> None:
    """Each of them is 401 without a token, with a wrong one and with a made-up cookie, and says what to do."""
    for headers in ({}, {"Authorization": "Bearer x"}, {"Cookie": f"thalweg-{console.port}=acting.9999999999.n.0"}):
        answer = httpx.get(f"{console.url}/api/{path}", headers=headers)
        assert answer.status_code == 401
        assert set(answer.json()) == {"error", "do"}


ACTS = [
    "models/batch@1/promote",
    "models/batch@1/rollback",
    "models/batch@1/retire",
    "alerts/x/silence",
    "hold",
    "dead/0/0/replay",
]


@pytest.mark.parametrize("path", ACTS)
def test_who_may_look_may_not_act(console: Running, path: str) -> None:
    """No act with the reading token, with a session that does not say its CSRF token, or from another site's page."""
    body: dict[str, Any] = {"reason": "r", "on": True, "hours": 1}
    with console.program("reading") as reader:
        assert reader.post(f"/api/{path}", json=body).status_code == 403
    with console.page() as (page, csrf):
        _refuses_all(page, csrf, path, body)
    assert httpx.post(f"{console.url}/api/{path}", json=body).status_code == 401


def _refuses_all(page: httpx.Client, csrf: str, path: str, body: dict[str, Any]) -> None:
    said = {"X-Thalweg-CSRF": csrf}
    strange = [
        {},
        {"X-Thalweg-CSRF": "x"},
        said | {"Origin": "http://evil.example"},
        said | {"Sec-Fetch-Site": "cross-site"},
        said | {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in strange:
        assert page.post(f"/api/{path}", json=body, headers=headers).status_code == 403


def test_a_session_is_a_cookie_that_no_script_reads(console: Running) -> None:
    """A good token becomes an HttpOnly, SameSite=Strict cookie; a bad one, or one from elsewhere, becomes nothing."""
    answer = httpx.post(f"{console.url}/api/session", json={"token": console.token("reading")})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert answer.json() | {"csrf": ""} == {"reading": True, "acting": False, "csrf": ""}
    assert console.token("reading") not in answer.text + cookie
    bad = httpx.post(f"{console.url}/api/session", json={"token": "x"})
    assert (bad.status_code, "set-cookie" in bad.headers) == (401, False)
    foreign = {"Origin": "http://evil.example"}
    assert (
        httpx.post(f"{console.url}/api/session", json={"token": console.token("reading")}, headers=foreign).status_code
        == 403
    )
    nobody = httpx.get(f"{console.url}/api/session").json()
    assert nobody == {"reading": False, "acting": False, "csrf": ""}
    with console.page() as (page, csrf):
        assert page.get("/api/session").json() == {"reading": True, "acting": True, "csrf": csrf}
        page.delete("/api/session")
        assert page.get("/api/session").json()["reading"] is False


@pytest.mark.parametrize("path", ["/", "/api/session", "/nothing", "/api/quality", "/api/predictions/x"])
def test_every_answer_keeps_other_scripts_out(console: Running, path: str) -> None:
    """Pages, answers and errors alike say what a browser may run and frame, and are kept by no cache."""
    answer = httpx.get(console.url + path)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"


def test_no_token_is_in_what_it_says(console: Running, program: httpx.Client) -> None:
    """Neither the log nor the settings nor any part holds a token; their file is its owner's alone."""
    shown = program.get("/api/settings").text + console.said + program.get("/api/models").text
    for level in ("reading", "acting", "key"):
        assert console.token(level) not in shown
    assert (console.data / "console" / "tokens.json").stat().st_mode & 0o077 == 0
    assert program.get("/api/settings").json()["store_mb"] == 16
