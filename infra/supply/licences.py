"""Whether every installed package may be used: its licence is on the list, or it is an exception with a reason."""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from importlib.metadata import Distribution
from typing import Any

_EXCEPTION = re.compile(r"\s+WITH\s+\S+")
LONGEST = 60  # what is longer is a licence's text, and not its name


def refused(packages: Iterable[Distribution], rules: Mapping[str, Any]) -> list[str]:
    """Return the packages that may not be used, with what they say of themselves."""
    found = []
    for package in packages:
        name, says = package.metadata["Name"].lower(), said(package)
        if excepted(name, rules["exceptions"]) is None and not any(permitted(one, rules) for one in says):
            found.append(f"{name} {package.version}: {' / '.join(says) or 'says nothing'}")
    return sorted(found)


def said(package: Distribution) -> list[str]:
    """Return the licences that a package claims: an SPDX expression, else what its classifiers and its text say."""
    if expressions := package.metadata.get_all("License-Expression"):
        return list(expressions)
    classifiers = package.metadata.get_all("Classifier") or []
    named = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::") and "OSI" in one]
    text = "".join(package.metadata.get_all("License") or []).strip()
    return [*named, *([text] if text and len(text) <= LONGEST and "\n" not in text else [])]


def permitted(expression: str, rules: Mapping[str, Any]) -> bool:
    """Whether an expression can be met: a side of each OR, and all of each AND; what comes WITH one only adds."""
    plain = _EXCEPTION.sub("", expression.replace("(", " ").replace(")", " "))
    return any(
        all(rules["called"].get(one.strip(), one.strip()) in rules["allowed"] for one in re.split(r"\s+AND\s+", side))
        for side in re.split(r"\s+OR\s+", plain)
    )


def excepted(name: str, exceptions: Mapping[str, str]) -> str | None:
    """Return the exception under which a package falls."""
    return next((pattern for pattern in exceptions if fnmatch(name.lower().replace("_", "-"), pattern)), None)
