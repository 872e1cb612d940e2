"""A finding: one line that says of one thing that it is well, or what is wrong with it and what to do."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["ok", "warning", "wrong"]
MARKS = {"ok": "ok", "warning": "warning", "wrong": "WRONG"}


class Finding(msgspec.Struct, frozen=True):
    """`check` names what was looked at; `do` is for the operator, and empty where nothing is to be done."""

    check: str
    level: Level
    says: str
    do: str = ""


def ok(check: str, says: str) -> Finding:
    return Finding(check, "ok", says)


def warning(check: str, says: str, do: str) -> Finding:
    return Finding(check, "warning", says, do)


def wrong(check: str, says: str, do: str) -> Finding:
    return Finding(check, "wrong", says, do)


def judged(findings: Sequence[Finding], check: str, says: str) -> list[Finding]:
    """Return what was found, or that all is well."""
    return list(findings) or [ok(check, says)]


def lines(findings: Sequence[Finding]) -> list[str]:
    """Lay findings out for a person, a line each, and a last one that counts them."""
    wide = max((len(found.check) for found in findings), default=0)
    said = [f"{found.check:{wide}}  {MARKS[found.level]:7}  {_sentence(found)}" for found in findings]
    bad, doubtful = (sum(found.level == level for found in findings) for level in ("wrong", "warning"))
    return [*said, f"{len(findings)} checks: {bad} wrong, {doubtful} to look at"]


def _sentence(found: Finding) -> str:
    return f"{found.says}; {found.do}" if found.do else found.says


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong; a warning is no failure."""
    return all(found.level != "wrong" for found in findings)
