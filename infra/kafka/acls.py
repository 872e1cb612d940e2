"""The rules of a stream on a Kafka broker, made of `acls.toml`: who may do what to topic, group or transaction."""

import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

FILE = Path(__file__).with_name("acls.toml")
OPERATOR = "operator"
FORGET = "forget"
Resource: TypeAlias = Literal["topic", "group", "transactional-id"]
Operation: TypeAlias = Literal["Read", "Write", "Create", "Delete", "Describe", "DescribeConfigs", "AlterConfigs"]
MAKE_AGAIN: tuple[Operation, ...] = ("Read", "Write", "Create", "Delete", "DescribeConfigs", "AlterConfigs")


class Grants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one user may do; names are without the stream, and `*` at the end of one stands for any ending."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    joins: bool = False
    transactions: tuple[str, ...] = ()
    watches: bool = False


class Rule(NamedTuple):
    """One rule of the broker: `user` may do that; `prefix`: to whatever begins with this name."""

    user: str
    operation: Operation
    resource: Resource
    name: str
    prefix: bool

    def command(self, bootstrap: str, *more: str) -> str:
        """Return it as a line of a shell."""
        pattern = ["--resource-pattern-type", "prefixed"] if self.prefix else []
        who = ["--add", "--allow-principal", f"User:{self.user}", "--operation", self.operation]
        words = ["kafka-acls.sh", "--bootstrap-server", bootstrap, *more, *who, f"--{self.resource}", self.name]
        return shlex.join([*words, *pattern])


def grants(file: Path = FILE) -> dict[str, Grants]:
    """Return what each service, and the operator, may do; ValueError says what is wrong with the file."""
    try:
        return msgspec.convert(tomllib.loads(file.read_text()), dict[str, Grants])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"{file}: {error}") from error


def user(stream: str, service: str) -> str:
    return f"{stream}.{service}"


def rules(stream: str, given: dict[str, Grants] | None = None) -> list[Rule]:
    """Return the rules of all users of a stream; each once."""
    every = grants() if given is None else given
    found = [rule for service, granted in every.items() for rule in _of(stream, service, granted)]
    return list(dict.fromkeys(found))


def _of(stream: str, service: str, granted: Grants) -> Iterator[Rule]:
    who = user(stream, service)
    wanted: list[tuple[Resource, Sequence[str], Sequence[Operation]]] = [
        ("topic", granted.reads, ("Read",)),
        ("topic", granted.writes, ("Write",)),
        ("topic", granted.looks, ("Describe",)),
        ("topic", granted.keeps, ("Create", "Read", "Write")),
        ("topic", granted.makes, ("Create",)),
        ("topic", granted.rewrites, MAKE_AGAIN),
        ("transactional-id", [f"{name}.forget" for name in granted.rewrites], ("Write",)),
        ("group", ("*",) if granted.rewrites else (), ("Read",)),
        ("transactional-id", granted.transactions, ("Write",)),
        ("topic", ("*",) if granted.watches else (), ("DescribeConfigs",)),
        ("group", ("*",) if granted.watches else ("reader.*",), ("Describe",)),
        ("group", (service,) if granted.joins else (), ("Read",)),
    ]
    for resource, names, operations in wanted:
        for name in names:
            for operation in operations:
                yield Rule(who, operation, resource, f"{stream}.{name.removesuffix('*')}", name.endswith("*"))
