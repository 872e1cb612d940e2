"""One name for a service everywhere, and one for a topic: folders, launcher, compose file, README and code agree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import stack, status
from infra.local.brokers import Broker
from infra.local.stack import Options, Stack
from services.runtime.stream import TOPICS, UNPARTITIONED, load_stream

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent.name for path in (ROOT / "services").glob("*/__main__.py"))
CO_PARTITIONED = {"events", "labels", "features", "scored", "predictions"}
PARTITIONS = 4


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def page(service: str) -> str:
    """Return the docstring of a service's package."""
    return ast.get_docstring(tree(ROOT / "services" / service / "__init__.py")) or ""


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = node.func
            if (isinstance(called, ast.Name) and called.id == name) or (
                isinstance(called, ast.Attribute) and called.attr == name
            ):
                yield node


# Services


def test_the_launcher_starts_every_service() -> None:
    """The services are the folders under services/ that can be run, and the launcher starts each of them."""
    assert sorted(stack.SERVICES) == FOLDERS


def compose_services(text: str) -> dict[str, str]:
    """Return the blocks of a compose file's services by key: two-space keys, comments left out."""
    lines = [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines()]
    inside, blocks, key = False, {}, ""
    for line in filter(None, lines):
        if not line.startswith(" "):
            inside = line == "services:"
        elif inside and (found := re.fullmatch(r"  ([\w.-]+):(.*)", line)):
            key = found[1]
            blocks[key] = found[2]
        elif inside:
            blocks[key] += f"\n{line}"
    return blocks


def test_the_compose_reader_reads() -> None:
    """The reader sees what is a service and what is not: other sections, comments, deeper keys."""
    text = (
        "x-one: &one\n  image: a\nservices:\n  kafka:\n    image: k # services.no\n\n  # note\n"
        "  features:\n    <<: *one\n    command:\n      - services.features\nvolumes:\n  data:\n"
    )
    assert {key: "services." in block for key, block in compose_services(text).items()} == {
        "kafka": False,
        "features": True,
    }


def misnamed(compose: str) -> str:
    """Return what a compose file gets wrong: each service runs under its own name, or the launcher runs them all."""
    blocks = compose_services(compose)
    runs = {key: set(re.findall(r"\bservices\.([a-z_]+)", block)) for key, block in blocks.items()}
    ours = {key: found for key, found in runs.items() if found}
    launchers = [key for key, block in blocks.items() if re.search(r"command: *\[?[\"']?(?:thalweg )?up\b", block)]
    if ours:
        return "" if ours == {name: {name} for name in FOLDERS} else f"services run as {ours}"
    return "" if launchers else "nothing runs the services"


def test_compose_calls_a_service_by_its_name() -> None:
    """In compose.yaml each service has a key that is its folder, or `thalweg up` runs them all."""
    assert misnamed((ROOT / "compose.yaml").read_text()) == ""


@pytest.mark.parametrize(
    ("keys", "good"),
    [
        ({name: name for name in FOLDERS}, True),
        ({name: name for name in FOLDERS[1:]}, False),
        ({f"{name}-1": name for name in FOLDERS}, False),
        ({}, False),
    ],
)
def test_the_rule_for_compose_finds_what_is_wrong(keys: dict[str, str], good: bool) -> None:  # noqa: FBT001
    """The rule itself: a service that is missing or called otherwise, and a file that runs none."""
    blocks = "".join(f"  {key}:\n    command: python -m services.{name}\n" for key, name in keys.items())
    assert (misnamed(f"services:\n  kafka:\n    image: k\n{blocks}") == "") is good


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_is_a_room_with_a_page(service: str) -> None:
    """A service has core.py and __main__.py, and an __init__.py that only says: reads, writes, keeps, start here."""
    folder = ROOT / "services" / service
    assert (folder / "core.py").is_file()
    text = page(service)
    assert text.startswith(f"{service.capitalize()}: ")
    for word in (r"Reads ", r"[;.] writes ", r"[;.] keeps ", r"Start here: `core\.py`"):
        assert re.search(word, text.replace("\n", " ")), f"{service}: {word!r} is not in its page"
    assert len(text.splitlines()) <= 6
    assert len(tree(folder / "__init__.py").body) == 1, "a page holds no code"
    for name in re.findall(r"`(\w+\.py)`", text):
        assert (folder / name).is_file(), f"{service}: its page names {name}"


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_calls_itself_by_its_folder(service: str) -> None:
    """SERVICE, which names the consumer group, settings, snapshots and logs, is the folder's name, and is used."""
    folder = ROOT / "services" / service
    said = [
        node.value.value
        for path in sorted(folder.glob("*.py"))
        for node in tree(path).body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["SERVICE"]
        if isinstance(node.value, ast.Constant)
    ]
    assert said == [service]
    for function, where in (("load", 0), ("run_service", 0), ("serve", 0)):
        for call in calls(folder / "__main__.py", function):
            assert ast.unparse(call.args[where]) == "SERVICE", f"{service}: {ast.unparse(call)}"
    assert list(calls(folder / "__main__.py", "run_service"))


def readme_table() -> list[str]:
    """Return the names in the first column of the README's service table."""
    rows: list[str] = []
    inside = False
    for line in (ROOT / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0].lower().startswith("service"))
        if inside and (found := re.fullmatch(r"\[?`([\w-]+)`(?:\]\(.*\))?", cells[0])):
            rows.append(found[1])
    return rows


def test_the_readme_has_a_row_for_each_service() -> None:
    """The README's table, whose first column is headed `service`, has every service and no other."""
    assert sorted(readme_table()) == FOLDERS


# Topics


def flows(service: str) -> tuple[set[str], set[str]]:
    """Return what a service's page says that it reads and writes."""
    text = page(service).replace("\n", " ")
    found = re.search(r"Reads (.*?)[;.] writes (.*?)[;.] keeps ", text)
    assert found, f"{service}: its page does not say what it reads and writes"
    return set(re.findall(r"`([\w-]+)`", found[1])), set(re.findall(r"`([\w-]+)`", found[2]))


@pytest.mark.parametrize("service", FOLDERS)
def test_a_page_names_topics_that_exist(service: str) -> None:
    """What a service reads and writes are topics of the stream."""
    reads, writes = flows(service)
    assert reads | writes <= set(TOPICS)


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_subscribes_to_what_its_page_reads(service: str) -> None:
    """The inputs given to the loop, and the topics that are tailed, are those that the page names."""
    main = ROOT / "services" / service / "__main__.py"
    inputs = [ast.literal_eval(call.args[3]) for call in calls(main, "serve")]
    tailed = [ast.literal_eval(call.args[0]) for call in calls(main, "topic")]
    assert {*(topic for found in inputs for topic in found), *tailed} == flows(service)[0]


def test_the_status_knows_every_input() -> None:
    """`thalweg status` asks how far behind each group is on what it really reads, and on nothing else."""
    inputs = {}
    for service in FOLDERS:
        for call in calls(ROOT / "services" / service / "__main__.py", "serve"):
            inputs[service] = tuple(ast.literal_eval(call.args[3]))
    assert inputs == status.INPUTS


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_writes_what_its_page_writes(service: str) -> None:
    """Each topic that a page says is written is named in the code, and each that is named there is on the page.

    Whoever has an Admission writes the dead letters that it makes.
    """
    main = ROOT / "services" / service / "__main__.py"
    named = {
        call.args[0].value
        for path in (ROOT / "services" / service).glob("*.py")
        for call in calls(path, "topic")
        if path != main and isinstance(call.args[0], ast.Constant)
    }
    if any(True for path in (ROOT / "services" / service).glob("*.py") for _ in calls(path, "Admission")):
        named.add("dead-letter")
    reads, writes = flows(service)
    assert named <= reads | writes
    if service != "ingestion":  # whose topic is that of the endpoint
        assert writes <= named


def test_every_topic_is_somebodys() -> None:
    """Each topic is written by a service, `commands` by people through the console, and what is read is a topic."""
    reads, writes = (set[str]().union(*(flows(service)[side] for service in FOLDERS)) for side in (0, 1))
    assert writes == set(TOPICS)
    assert reads <= writes


def test_code_names_no_other_topic() -> None:
    """`stream.topic("…")` is called with topics of the list and no others."""
    seen = set()
    for folder in ("services", "infra"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in calls(path, "topic"):
                if call.args and isinstance(call.args[0], ast.Constant):
                    seen.add(call.args[0].value)
                    assert call.args[0].value in TOPICS, f"{path}: {ast.unparse(call)}"
    assert len(seen) >= 6


@pytest.mark.parametrize("kind", ["embedded", "kafka", "external"])
def test_the_launcher_creates_every_topic(kind: str, tmp_path: Path) -> None:
    """Each topic is created; those that share their keys share their partition count, a total order has one."""
    stream = load_stream(ROOT / "schemas", "flights")
    started = Stack(Options("flights", PARTITIONS, run_dir=tmp_path), stream, ROOT / "schemas")
    started.broker = Broker("127.0.0.1:1", kind, "1")
    created = started._topics()
    assert set(created) == {f"flights.{topic}" for topic in TOPICS}
    counts = {topic: created[f"flights.{topic}"].partitions for topic in TOPICS}
    assert {topic for topic, n in counts.items() if n == PARTITIONS} == CO_PARTITIONED
    assert {topic for topic, n in counts.items() if n == 1} == set(UNPARTITIONED)
    assert set(TOPICS) == CO_PARTITIONED | set(UNPARTITIONED)
