"""What is said of containers: their start, death and coming back, from the engine's events alone."""

import pytest

from infra.compose.engine import Event
from infra.compose.following import Following
from infra.local.supervision import DEATHS, WITHIN_S


def told(following: Following, *events: tuple[str, float, int]) -> list[str]:
    return [following.tell(Event("features", what, at, code)) for what, at, code in events]


def test_a_life_is_told() -> None:
    """A start, how long it took to be healthy, each death with its exit code, and that it came back: a line each."""
    assert told(
        Following(),
        ("start", 100.0, 0),
        ("healthy", 112.0, 0),
        ("die", 200.0, 137),
        ("start", 201.0, 0),
        ("healthy", 206.0, 0),
        ("unhealthy", 300.0, 0),
        ("healthy", 310.0, 0),
        ("pause", 320.0, 0),
        ("unpause", 330.0, 0),
        ("oom", 340.0, 0),
        ("die", 350.0, 0),
    ) == [
        "features starts",
        "features is healthy after 12 s",
        "features exited with code 137",
        "features starts again",
        "features is healthy after 5 s",
        "features fails its health check",
        "features is healthy again",
        "features is paused",
        "features goes on",
        "features ran out of memory",
        "features has ended well",
    ]


@pytest.mark.parametrize(("apart", "given_up"), [(WITHIN_S / DEATHS, True), (WITHIN_S / (DEATHS - 1), False)])
def test_what_dies_over_and_over_is_given_up(apart: float, given_up: bool) -> None:  # noqa: FBT001
    """So many deaths within a minute are hopeless, one fewer is not, and each counts for a minute alone."""
    following = Following()
    for n in range(DEATHS):
        assert not (n and following.hopeless("features"))
        told(following, ("die", 1000.0 + n * apart, 1))
        assert following.before("features") == (1000.0 + (n - 1) * apart if n else None)
    assert following.hopeless("features") is given_up


def test_another_containers_deaths_are_its_own() -> None:
    """Deaths are counted by container."""
    following = Following()
    for n in range(DEATHS):
        for service in (f"a{n}", f"b{n}"):
            following.tell(Event(service, "die", float(n), 1))
            assert not following.hopeless(service)
