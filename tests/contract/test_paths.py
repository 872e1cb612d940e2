"""What documents say of the repository is so, and what must not be in it is not: over the files that git knows."""

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("services", "infra", "schemas")
README_LINES = 150
BARRED = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
SUFFIXES = (
    "py",
    "md",
    "toml",
    "json",
    "yaml",
    "yml",
    "xml",
    "txt",
    "in",
    "sh",
    "ini",
    "cfg",
    "html",
    "css",
    "js",
    "proto",
)
WORD = r"[A-Za-z0-9_.*<>{}-]+"
PATH = re.compile(rf"(?:\./)?{WORD}(?:/{WORD})*/?")
TICKED = re.compile(r"`([^`\n]+)`")
LINKED = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Rules are written so that none of them finds itself.
MACHINES = re.compile(r"/home/[a-z]\w*/|/Users/[A-Za-z]|[A-Z]:\\{1,2}Users")
SECRETS = {
    "a private key": re.compile(r"-{5}BEGIN [A-Z ]*PRIVATE KEY"),
    "an AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a token of GitHub, Slack or an API": re.compile(r"\b(?:gh[pousr]_\w{30}|xox[abprs]-\w{10}|sk-[\w-]{20})"),
    "a password": re.compile(
        r"""(?i)(?:password|passwd|secret|token|api_?key)\w*["']?\s*[:=]\s*["'][^"'$<{\s]{12,}["']"""
    ),
}


def git(*arguments: str) -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no list of files to hold to the rules")
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def known() -> list[str]:
    """Return the files that are in git, or would be: not ignored, and there."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard")
    return sorted(name for name in set(names) if (ROOT / name).is_file())


@pytest.fixture(scope="module")
def texts(known: list[str]) -> dict[str, str]:
    found = {}
    for name in known:
        try:
            found[name] = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


# Paths that documents name


class Paths:
    """Says whether what looks like a path of this repository is one. `<name>`, `{name}` and `*` stand for anything."""

    def __init__(self, known: list[str]) -> None:
        self._places = {str(p) for name in known for p in (Path(name), *Path(name).parents)} - {"."}
        self._tops = {name.partition("/")[0] for name in known}
        ignored = (ROOT / ".gitignore").read_text().split()
        self._ignored = {line.strip("/") for line in ignored}

    def broken(self, text: str, file: str) -> list[str]:
        """Return the paths in a document or comment of `file` that lead nowhere."""
        return sorted({word for word in self._named(text) if not self._leads_somewhere(word, file)})

    def _named(self, text: str) -> Iterator[str]:
        for span in TICKED.findall(FENCED.sub("", text)):
            words = span.split()
            yield from (word for word in words if self._rooted(word) or (len(words) == 1 and self._a_file(word)))
        for block in FENCED.findall(text):
            yield from (word for word in block.split() if self._rooted(word))
        for link in LINKED.findall(text):
            if not re.match(r"[a-z]+:|#", link):
                yield link.partition("#")[0]

    def _rooted(self, word: str) -> bool:
        """Whether it starts at the top of the repository."""
        return bool(PATH.fullmatch(word)) and "/" in word and word.removeprefix("./").split("/")[0] in self._tops

    def _a_file(self, word: str) -> bool:
        """Whether it is a file's name, with folders or not, as one is named beside its neighbours."""
        return (
            bool(PATH.fullmatch(word)) and "." in word and word.rpartition(".")[2] in SUFFIXES and word[0] not in "<{*."
        )

    def _leads_somewhere(self, word: str, file: str) -> bool:
        plain = word.removeprefix("./").rstrip("/")
        pattern = re.sub(r"<[^>]*>|\{[^}]*\}", "*", plain)
        beside = [str(folder / pattern) for folder in Path(file).parents]
        anywhere = ["*/" + pattern, pattern] if "/" not in pattern else []
        return any(name in self._ignored for name in (plain, *plain.split("/"))) or any(
            fnmatch(place, wanted) for place in self._places for wanted in [*beside, *anywhere]
        )


@pytest.fixture(scope="module")
def paths(known: list[str]) -> Paths:
    return Paths(known)


def said(name: str, text: str) -> str:
    """Return what a file says to people: all of a document, the comments and docstrings of a program."""
    if name.endswith(".md"):
        return text
    if name.endswith(".py"):
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        documented = [node for node in ast.walk(ast.parse(text)) if isinstance(node, nodes)]
        comments = [
            t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT
        ]
        return "\n".join([*(ast.get_docstring(node) or "" for node in documented), *comments])
    return "\n".join(line[line.index("#") :] for line in text.splitlines() if "#" in line)


DOCUMENTS = ["README.md", "infra/decisions.md", "infra/promises.md", "infra/personal_data.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_a_document_names_exists(document: str, paths: Paths) -> None:
    """README and decisions name no file that is not there, in code spans, code blocks and links."""
    assert (ROOT / document).is_file(), f"{document} is missing"
    assert paths.broken((ROOT / document).read_text(), document) == []


def test_every_path_that_a_comment_names_exists(texts: dict[str, str], paths: Paths) -> None:
    """Docstrings, comments and the other documents name no file that is not there."""
    broken = {
        name: found
        for name, text in texts.items()
        if (name.endswith((".py", ".md", ".toml", ".yaml", ".yml")) or text.startswith("#!"))
        and not name.startswith("tests/")
        and (found := paths.broken(said(name, text), name))
    }
    assert broken == {}


def test_a_script_runs_only_what_is_there(texts: dict[str, str], known: list[str]) -> None:
    """Every `infra/…`, `services/…`, `tests/…` or `schemas/…` in a shell script is a file or a folder."""
    pattern = re.compile(r"(?:infra|services|tests|schemas|loadtests)/[\w./-]+\w")
    scripts = {name: text for name, text in texts.items() if text.startswith("#!") and "sh" in text.splitlines()[0]}
    assert set(scripts) >= {"infra/setup", "infra/demo", "infra/test"}
    for name, text in scripts.items():
        for path in pattern.findall(text):
            assert (ROOT / path).exists(), f"{name} names {path}"
        assert name in known


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("see `infra/nowhere.py`", ["infra/nowhere.py"]),
        ("see `nowhere.py` and `core.py`", ["nowhere.py"]),
        ("[a](infra/nowhere) [b](infra/cli.py#x) [c](https://example.org/infra/x)", ["infra/nowhere"]),
        ("run `./infra/demo --events 5` or `./infra/dome --help`", ["./infra/dome"]),
        ("```\n./infra/tset -x\ncurl localhost/v1/streams\n```", ["./infra/tset"]),
        ("`schemas/<stream>/pipeline.toml`, `schemas/*/pipelines.toml`", ["schemas/*/pipelines.toml"]),
        (
            "`<data>/keys`, `.run/`, `p50/p99`, `a.b`, `json`, `SIGTERM`, `predictions`, `.venv/bin/python`",
            [],
        ),
    ],
)
def test_the_rule_finds_what_is_wrong(text: str, broken: list[str], paths: Paths) -> None:
    """The rule itself: what is a path, and which of them lead nowhere."""
    assert paths.broken(text, "README.md") == broken


def test_the_readme_fits() -> None:
    """README within 150 lines: what does not fit belongs elsewhere."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_decisions_are_short_and_dated() -> None:
    """Each entry of infra/decisions.md has a date and at most ten lines."""
    entries = re.split(r"^##+ ", (ROOT / "infra" / "decisions.md").read_text(), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        title, *body = [line for line in entry.splitlines() if line.strip()]
        assert re.search(r"\b20\d\d-\d\d-\d\d\b", title), title
        assert len(body) <= 10, title


# Locks


def locks() -> list[Path]:
    return sorted(path for path in (ROOT / "infra" / "locks").glob("*.txt") if "overrides" not in path.name)


def test_no_lock_names_a_registry() -> None:
    """Pins hold wherever packages come from: no address and no index in infra/locks."""
    for path in (ROOT / "infra" / "locks").iterdir():
        found = re.findall(r"\w+://\S*|--(?:extra-)?index-url|--find-links|--trusted-host", path.read_text())
        assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("lock", locks(), ids=lambda path: path.name)
def test_every_pin_has_hashes(lock: Path) -> None:
    """A line of a lock is name==version and its sha256 hashes, nothing looser, and no package stands there twice."""
    joined = lock.read_text().replace("\\\n", " ").splitlines()
    pins = [line.strip() for line in joined if line.strip() and not line.lstrip().startswith("#")]
    assert pins
    for pin in pins:
        assert re.fullmatch(r"[\w.-]+==[\w.!+-]+(?: ; [^#]*?)?(?:\s+--hash=sha256:[0-9a-f]{64})+", pin), pin[:80]
    assert max(Counter(pin.partition("==")[0] for pin in pins).values()) == 1


def test_setup_installs_the_locks_that_are_tested() -> None:
    """infra/setup installs from these locks and from nothing else, hashes required."""
    setup = (ROOT / "infra" / "setup").read_text()
    assert {path.name for path in locks()} == set(re.findall(r"\b[\w-]+\.txt\b", setup))
    for line in setup.splitlines():
        if re.search(r"pip sync|-r infra/locks", line):
            assert "--require-hashes" in line, line


# What must not be there


def test_no_file_knows_the_machine_that_it_was_written_on(texts: dict[str, str]) -> None:
    """No absolute path of a developer's machine, this one's included."""
    for name, text in texts.items():
        assert not (found := MACHINES.findall(text)), f"{name}: {found}"
        assert str(ROOT) not in text or len(ROOT.parts) < 3, name


@pytest.mark.parametrize("what", SECRETS)
def test_no_file_holds(what: str, texts: dict[str, str]) -> None:
    """Nothing that looks like a key, a token or a password is in the repository."""
    for name, text in texts.items():
        assert not (found := SECRETS[what].findall(text)), f"{name}: {found}"


def test_no_file_is_a_key_or_was_made_by_running(known: list[str]) -> None:
    """No key files, environments, caches, logs, run folders or compiled files."""
    barred = re.compile(
        r"(?:^|/)(?:id_\w+|\.env(?:\..*)?|private|\.run|\.venv[\w-]*|__pycache__)(?:/|$)"
        r"|\.(?:pem|key|p12|pyc|so|whl|log|model|snapshot|pickle|pkl)$"
    )
    pins = {".env"}  # images, ports and sizes; `test_compose.py` holds that no secret is among them
    assert [name for name in known if barred.search(name) and name not in pins] == []


def test_every_module_says_what_it_is() -> None:
    """Every module under services/, infra/ and schemas/ opens with a docstring."""
    modules = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 40
    assert [str(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_every_script_says_what_it_is(texts: dict[str, str]) -> None:
    """The second line of a script is a comment that says what it does; the script can be run, and stops at errors."""
    for name, text in texts.items():
        if text.startswith("#!"):
            assert re.match(r"#!.*\n# \S+ ", text), name
            assert (ROOT / name).stat().st_mode & 0o111, name
            assert "bash" not in text.splitlines()[0] or "set -euo pipefail" in text, name


def test_no_name_says_nothing(known: list[str]) -> None:
    """No file or folder is called utils, common, helpers, manager, base or misc, alone or with something before it."""
    for name in known:
        for part in Path(name).with_suffix("").parts:
            assert not BARRED & set(re.split(r"[_.-]", part.lower())), name


def test_test_files_have_names_of_their_own(known: list[str]) -> None:
    """Pytest imports test files by their bare names: no two are called the same, and their folders are no packages."""
    tests = [Path(name).name for name in known if name.startswith("tests/") and name.endswith(".py")]
    assert [name for name, times in Counter(tests).items() if times > 1 and name != "conftest.py"] == []
    assert "__init__.py" not in tests
