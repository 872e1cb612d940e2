"""Secrets in texts: what looks like a key or a token by its shape, or stands where a secret would and looks random."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator

# Rules are written so that none of them finds itself.
SHAPES = {
    "a private key": re.compile(r"-{5}BEGIN [A-Z ]*PRIVATE KEY"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub, GitLab, Slack or an API": re.compile(
        r"\b(?:gh[pousr]_\w{30}|github_pat_\w{20}|glpat-[\w-]{20}|xox[abprs]-\w{10}|sk-[\w-]{20})"
    ),
    "a Google key": re.compile(r"\bAIza[\w-]{35}\b"),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a password in a URL": re.compile(r"\b[a-z][a-z0-9+]*://[^\s/:@'\"{}<$]+:([^\s/@'\"{}<$]{8,})@"),
}
ASSIGNED = re.compile(
    r"""(?i)\b\w*(?:password|passwd|secret|token|api_?key|credential)\w*["']?\s*[:=]\s*["']?([A-Za-z0-9+/_=.-]{16,})["']?"""
)
RANDOM_BITS = 3.6  # a character of random base64 has up to 6, of hexadecimal 4; of English or code words about 3
LONGEST = 10_000  # a longer line is data


def secrets_in(text: str, made_up: Collection[str] = (), *, tests: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the line, from 1, and the kind of whatever looks like a secret.

    What has a word of `made_up` in it is none. In `tests` a random value alone is none either: they make up many.
    """
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) < LONGEST:
            yield from ((number, kind) for kind, value in _found(line, tests) if not any(w in value for w in made_up))


def _found(line: str, tests: bool) -> Iterator[tuple[str, str]]:  # noqa: FBT001
    yield from ((kind, found[0]) for kind, shape in SHAPES.items() if (found := shape.search(line)))
    for found in () if tests else ASSIGNED.finditer(line):
        if looks_random(found[1]):
            yield "a random value where a secret would stand", found[1]


def looks_random(value: str) -> bool:
    """Whether it has digits and letters, and no two characters follow a pattern: by its entropy (Shannon, 1948)."""
    mixed = any(mark.isdigit() for mark in value) and any(mark.isalpha() for mark in value)
    return mixed and entropy(value) >= RANDOM_BITS


def entropy(value: str) -> float:
    """Return the bits a character of a text, by how often each comes."""
    counts = Counter(value)
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
