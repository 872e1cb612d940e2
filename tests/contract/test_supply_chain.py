"""What we are made of: licences that are permissive, no known fault, no secret in a file, and no careless code."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email.message import Message
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra.doctor.installed import canonical, present, read_lock
from infra.local.triton import PACKAGES
from infra.supply.advisories import concerning
from infra.supply.licences import excepted, permitted, refused
from infra.supply.secrets import looks_random, secrets_in

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "infra" / "supply" / "rules.toml").read_text())
CODE = ("services", "infra", "schemas", "loadtests")
LOCKED = {"thalweg": None, "triton": [str(PACKAGES)]}  # a lock, and where it is installed
ADVISORIES = "OSV_ADVISORIES"  # a folder: where the check of known faults finds them


def distributions(lock: str) -> list[metadata.Distribution]:
    """Return what a lock has installed; what is missing is a fault of the environment."""
    folders = LOCKED[lock]
    there = metadata.distributions() if folders is None else metadata.distributions(path=folders)
    by_name = {canonical(one.metadata["Name"]): one for one in there}
    names = read_lock(ROOT / "infra" / "locks" / f"{lock}.txt")
    assert sorted(names.keys() - by_name.keys()) == [], "run ./infra/setup"
    return [by_name[name] for name in names]


# Licences


@pytest.mark.parametrize("lock", LOCKED)
def test_every_package_may_be_used(lock: str) -> None:
    """Each package of a lock has a permissive licence, or is an exception with a reason."""
    assert len(found := distributions(lock)) >= 10
    assert refused(found, RULES["licences"]) == []


def test_no_exception_is_left_over() -> None:
    """An exception that no installed package needs is taken away, and each says why."""
    names = [one.metadata["Name"] for lock in LOCKED for one in distributions(lock)]
    assert {excepted(name, RULES["licences"]["exceptions"]) for name in names} - {None} == {
        pattern for pattern in RULES["licences"]["exceptions"] if pattern != "nvidia-pytriton"
    }
    assert all(len(why) > 15 for why in RULES["licences"]["exceptions"].values())


def package(name: str, **fields: str) -> metadata.Distribution:
    told = Message()
    told["Name"] = name
    for field, value in fields.items():
        told[field.replace("_", "-")] = value
    return cast(metadata.Distribution, SimpleNamespace(metadata=told, version="1"))


def test_a_licence_that_is_not_permissive_is_found() -> None:
    """Copyleft, proprietary terms and silence are refused; a choice that may be made, and a known name, are not."""
    bad = [
        package("a", License_Expression="GPL-3.0-or-later"),
        package("b", License_Expression="MIT AND LGPL-2.1-only"),
        package("c", License="Proprietary"),
        package("d"),
        package("e", Classifier="License :: OSI Approved :: GNU General Public License v3 (GPLv3)"),
    ]
    good = [
        package("f", License_Expression="GPL-2.0-only OR MIT"),
        package("g", License_Expression="Apache-2.0 WITH LLVM-exception AND (BSD-3-Clause)"),
        package("h", Classifier="License :: OSI Approved :: BSD License"),
        package("nvidia-new", License="NVIDIA Proprietary Software"),
    ]
    assert [line.split()[0] for line in refused([*good, *bad], RULES["licences"])] == ["a", "b", "c", "d", "e"]
    assert not permitted("AGPL-3.0", RULES["licences"])


# Known faults


def test_no_package_has_a_known_fault() -> None:
    """No installed version falls under an advisory of the folder that OSV_ADVISORIES names, but for accepted ones."""
    folder = os.environ.get(ADVISORIES)
    if not folder:
        pytest.skip(f"no advisories: let {ADVISORIES} name a folder of them in OSV's format, such as PyPA's database")
    accepted = RULES["advisories"]["accepted"]
    for lock, folders in LOCKED.items():
        assert concerning(Path(folder), present(folders), accepted) == [], lock


def advisory(name: str, events: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": events}]
    affected = [
        {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges, "versions": more.pop("versions", [])}
    ]
    return {"id": f"TEST-{name}", "summary": "a fault", "affected": affected, **more}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (advisory("River", [{"introduced": "0"}, {"fixed": "0.27"}]), True),
        (advisory("river", [{"introduced": "0"}, {"fixed": "0.26.1"}]), False),
        (advisory("river", [{"introduced": "0.27"}]), False),
        (advisory("river", [{"introduced": "0"}, {"last_affected": "0.26.1"}]), True),
        (advisory("river", [{"introduced": "0"}, {"last_affected": "0.26.0"}]), False),
        (advisory("river", [{"introduced": "0"}, {"fixed": "0.2"}, {"introduced": "0.26"}]), True),
        (advisory("river", [], versions=["0.26.1"]), True),
        (advisory("river", [{"introduced": "0"}], withdrawn="2026-01-01T00:00:00Z"), False),
        (advisory("lake", [{"introduced": "0"}]), False),
    ],
)
def test_an_advisory_is_found(tmp_path: Path, told: dict[str, Any], found: bool) -> None:  # noqa: FBT001
    """A planted advisory is found where the installed version falls under it, and only there, unless accepted."""
    (tmp_path / "one.json").write_text(json.dumps(told))
    said = concerning(tmp_path, {"river": "0.26.1"}, {})
    assert said == ([f"{told['id']}: river 0.26.1: a fault"] if found else [])
    assert concerning(tmp_path, {"river": "0.26.1"}, {told["id"]: "why"}) == []


# Secrets


def tracked() -> Iterator[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of files")
    argv = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    yield from (ROOT / name for name in names.stdout.splitlines() if (ROOT / name).is_file())


def test_no_file_holds_a_secret() -> None:
    """Nothing that git knows, or would take, has in it what looks like a key, a token or a password."""
    found = [f"{path.relative_to(ROOT)}:{line}: {kind}" for path in tracked() for line, kind in scanned(path)]
    assert found == []


def scanned(path: Path) -> list[tuple[int, str]]:
    made_up, tests = RULES["secrets"]["made_up"], ROOT / "tests" in path.parents
    try:
        return list(secrets_in(path.read_text(encoding="utf-8"), made_up, tests=tests))
    except UnicodeDecodeError:
        return []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN " + "RSA PRIVATE KEY-----",
        "aws = AKIA" + "Q3EGRKJ7ZP2LM5XW",
        "ghp_" + "a" * 36,
        "THALWEG_TOKEN=" + "q8Zr2kLx0vN4bT7yWc1E",
        'api_key: "' + "f3a9c1d07b5e8264" + '"',
        "postgresql://mlflow:" + "swordfish9@db/mlflow",
        "eyJhbGciOiJIUzI1" + "NiJ9.eyJzdWIiOiIx" + "MjM0In0.dozjgNryP4J3",
    ],
)
def test_a_planted_secret_is_found(tmp_path: Path, text: str) -> None:
    """Each kind of secret, planted in a file, is found in its line."""
    file = tmp_path / "settings.py"
    file.write_text(f"# nothing here\n{text}\n")
    assert [line for line, _ in scanned(file)][:1] == [2]


@pytest.mark.parametrize(
    "text",
    [
        "token = secrets.token_urlsafe(24)",
        "password=os.environ['BROKER_PASSWORD']",
        "https://127.0.0.1:8080/path",
        'url = f"s3://{user}:{password}@host"',
        "the token stands in `tokens.json`, readable by its owner alone",
    ],
)
def test_what_is_no_secret_is_not_found(text: str) -> None:
    """Code that makes, reads or names secrets holds none."""
    assert list(secrets_in(text)) == []
    assert not looks_random("aaaaaaaaaaaaaaaaaaaa1")


# Careless code


def bandit(*where: str | Path) -> list[dict[str, Any]]:
    argv = [sys.executable, "-m", "bandit", "-q", "-r", "-f", "json", *map(str, where)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["errors"] == []
    found: list[dict[str, Any]] = told["results"]
    return found


def test_bandit_finds_nothing_that_was_not_looked_at() -> None:
    """Each finding over our code is accepted by its test and file, with a reason."""
    accepted = RULES["bandit"]["accepted"]
    left = [
        f"{one['filename']}:{one['line_number']}: {one['test_id']} {one['issue_text']}"
        for one in bandit(*CODE)
        if not any(fnmatch(one["filename"], files) for files, _ in accepted.get(one["test_id"], []))
    ]
    assert left == []


def test_bandit_would_find_something(tmp_path: Path) -> None:
    """A shell made of a string, and a weak digest for a password, are found."""
    (tmp_path / "bad.py").write_text("import subprocess\nsubprocess.call('ls ' + input(), shell=True)\n")
    assert "B602" in {one["test_id"] for one in bandit(tmp_path)}


def test_locks_name_no_place() -> None:
    """A lock pins names, versions and hashes; where packages come from is for whoever installs them."""
    for path in (ROOT / "infra" / "locks").glob("*.txt"):
        text = path.read_text()
        assert not re.search(r"https?://|--(?:extra-)?index-url|--find-links|git\+", text), path.name
        pins = len(re.findall(r"^[\w.\[\],-]+==", text, re.MULTILINE))
        if "--hash" in text:
            assert pins == len(re.findall(r"^[\w.\[\],-]+==[^\n]+\\\n    --hash", text, re.MULTILINE)), path.name
