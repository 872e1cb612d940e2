"""What a user may do on the broker is what its service says of itself, and no client gets there by another way."""

import ast
from pathlib import Path

import pytest

from infra.forgetting.person import KINDS
from infra.kafka.acls import FILE, FORGET, OPERATOR, Grants, Rule, grants, rules
from services.runtime.stream import TOPICS
from tests.contract.test_names import FOLDERS, ROOT, calls, flows

SENT_AGAIN = {"events", "labels"}  # where a dead letter goes that a person on the page has sent through again
GRANTED = grants()


def test_every_service_has_its_grants() -> None:
    """Each service has an entry, and there are two more: for people, and for forgetting."""
    assert set(GRANTED) == {*FOLDERS, OPERATOR, FORGET}


def test_who_forgets_may_make_again_what_tells_of_a_key_and_nothing_else() -> None:
    """Its topics are those that the command writes again; nobody else may delete a topic or change how it is set."""
    assert GRANTED[FORGET] == Grants(rewrites=GRANTED[FORGET].rewrites)
    assert set(GRANTED[FORGET].rewrites) == set(KINDS)
    mighty = {rule.user for rule in rules("flights") if rule.operation in ("Delete", "AlterConfigs")}
    assert mighty == {"flights.forget"}


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_may_read_and_write_what_its_page_says(service: str) -> None:
    """No topic more and none less: least privilege is what the service's page says that it does."""
    reads, writes = flows(service)
    assert set(GRANTED[service].reads) == reads
    assert set(GRANTED[service].writes) == writes | (SENT_AGAIN if service == "console" else set())


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_joins_a_group_and_has_transactions_as_its_loop_does(service: str) -> None:
    """Whoever has inputs joins a group of its name; the production loop alone writes in transactions of its name."""
    main = ROOT / "services" / service / "__main__.py"
    looped = any(
        alias.name == "serve"
        for node in ast.walk(ast.parse(main.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "services.runtime.process"
        for alias in node.names
    )
    assert GRANTED[service].joins == any(True for _ in calls(main, "serve"))
    if looped:
        assert GRANTED[service].transactions == (f"{service}.*",)
    assert looped == (f"{service}.*" in GRANTED[service].transactions)


def test_grants_name_topics_that_exist() -> None:
    """What is granted is a topic of the list; only drift keeps topics of its own, only people may read all."""
    for service, granted in GRANTED.items():
        named = {*granted.reads, *granted.writes, *granted.looks, *granted.rewrites}
        assert named - {"*"} <= set(TOPICS), service
        assert service == OPERATOR or not any("*" in name for name in named), service
        assert granted.keeps == (("drift-*",) if service == "drift" else ())
        assert not granted.makes or service == OPERATOR


def test_no_rule_reaches_beyond_its_stream() -> None:
    """Every name in a rule begins with the stream and a dot, so that one stream's users are nobody on another's."""
    found = rules("flights")
    assert len(found) == len(set(found)) > 60
    for rule in found:
        assert rule.name.startswith("flights."), rule
        assert rule.user.startswith("flights."), rule
        assert (
            not rule.prefix or rule.user in ("flights.operator", "flights.forget") or len(rule.name) > len("flights.")
        ), rule


def test_a_rule_is_a_line_of_kafkas_own_tool() -> None:
    """A rule is printed as kafka-acls.sh takes it, with the pattern of a prefix."""
    shown = Rule("s.drift", "Create", "topic", "s.drift-", prefix=True).command("b:9093", "--command-config", "a b")
    assert shown == (
        "kafka-acls.sh --bootstrap-server b:9093 --command-config 'a b' --add --allow-principal User:s.drift"
        " --operation Create --topic s.drift- --resource-pattern-type prefixed"
    )


def test_a_mistake_in_the_file_is_named(tmp_path: Path) -> None:
    """A word that does not exist is an error with the file and the place: nobody gets a rule that is silently none."""
    wrong = tmp_path / "acls.toml"
    wrong.write_text(FILE.read_text().replace("looks =", "lokos =", 1))
    with pytest.raises(ValueError, match=r"acls.toml: .*lokos.*\[\.\.\.\]"):
        grants(wrong)


@pytest.mark.parametrize("folder", ["services", "infra"])
def test_clients_are_made_in_one_way(folder: str) -> None:
    """Where the broker is, and what lets a client in, stands in `clients.py` alone: nobody forgets TLS or the user."""
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        if "bootstrap.servers" in path.read_text()
    }
    assert naming == ({"services/runtime/clients.py"} if folder == "services" else set())


@pytest.mark.parametrize("maker", ["Producer", "Consumer", "AdminClient"])
def test_each_client_gets_its_settings_from_there(maker: str) -> None:
    """A client of librdkafka is made of what `client(…)` returns."""
    found = 0
    for folder in ("services", "infra"):
        for path in (ROOT / folder).rglob("*.py"):
            librdkafka = "from confluent_kafka" in path.read_text()
            for call in calls(path, maker) if librdkafka else ():
                found += 1
                inner = call.args[0]
                ours = isinstance(inner, ast.Call) and ast.unparse(inner.func) == "client"
                assert ours or path.name == "clients.py", f"{path}: {ast.unparse(call)}"
    assert found
