"""Which packages of the lock an image needs: those that its services import, and what these need in their turn.

Run by the environment that the lock made: `python -m infra.images.packages SERVICE …` prints the lock's lines with
their hashes, so that there is one list of pins and nobody keeps a second by hand.
"""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "infra" / "locks" / "thalweg.txt"
_WHOLE = {"trainer"}  # starts its workers by name: all of its folder is reached
_UNSAID = {"mlflow-skinny": ("alembic", "sqlalchemy")}  # what a package imports in our use of it, and does not declare


def modules_of(services: Iterable[str]) -> set[Path]:
    """Return the files under services/ that these services can import, wherever in a file the import stands."""
    todo = [file for service in services for file in _entries(service)]
    seen: set[Path] = set()
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo += [path for name in imported(file) if (path := _ours(name)) is not None]
    return seen


def _entries(service: str) -> list[Path]:
    folder = ROOT / "services" / service
    return sorted(folder.rglob("*.py")) if service in _WHOLE else [folder / "__main__.py"]


def imported(file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _ours(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if name.startswith("services") and file.is_file()), None)


def roots(services: Iterable[str]) -> set[str]:
    """Return the requirements of pyproject.toml that these services import, extras and all."""
    tops = {name.partition(".")[0] for file in modules_of(services) for name in imported(file)}
    owners = importlib.metadata.packages_distributions()
    wanted = {normal(owner) for top in tops for owner in owners.get(top, ())}
    wanted |= {name for owner in wanted for name in _UNSAID.get(owner, ())}
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return {line for line in declared if normal(Requirement(line).name) in wanted}


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the names of what is installed here of these requirements and of all that they need."""
    todo = [Requirement(line) for line in requirements]
    seen: set[tuple[str, str]] = set()
    while todo:
        wanted = todo.pop()
        for extra in ("", *wanted.extras):
            if (key := (normal(wanted.name), extra)) not in seen:
                seen.add(key)
                todo += _needs(wanted.name, extra)
    return {name for name, _ in seen if _installed(name)}


def _needs(name: str, extra: str) -> list[Requirement]:
    lines = (distribution(name).requires or []) if _installed(name) else []
    needs = [Requirement(line) for line in lines]
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def locked(names: set[str], lock: str) -> str:
    """Return the lock's entries of these names."""
    entries = re.split(r"\n(?=\S)", lock.strip())
    return "\n".join(entry for entry in entries if normal(re.split(r"[=\[ ]", entry)[0]) in names) + "\n"


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(arguments: list[str]) -> None:
    """Print the pins of some services, `--without` those of others; or of the packages after `--only`."""
    lock = LOCK.read_text()
    if arguments[0] == "--only":
        sys.stdout.write(locked({normal(name) for name in arguments[1:]}, lock))
        return
    cut = arguments.index("--without") if "--without" in arguments else len(arguments)
    names, others = (closure(roots(part)) for part in (arguments[:cut], arguments[cut + 1 :]))
    sys.stdout.write(locked(names - others, lock))


if __name__ == "__main__":
    main(sys.argv[1:])
