"""What becomes of a field that says who somebody is, before it comes to a topic: `"pii"` in a stream's schemas.

"drop" leaves it out, "hash" puts a keyed hash in its place, "tokenise" a random token whose meaning the vault keeps.
`true` is "hash". So a stream has two schemas of an event: what a producer sends, and what is on the log, which no raw
value satisfies: a record with one, put straight on Kafka, is refused, and its dead letter has it no more. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, cast, get_args

import msgspec

from services.runtime.errors import ConfigError, Reject
from services.runtime.grammar import Pipeline
from services.runtime.records import bare

Treatment: TypeAlias = Literal["drop", "hash", "tokenise"]
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)
HASH, TOKEN = "pii:", "tok:"
HEX, LETTERS = 32, 22  # digits of a hash, letters of a token: 128 bits each
PATTERNS = {"hash": rf"^{HASH}[0-9a-f]{{{HEX}}}$", "tokenise": rf"^{TOKEN}[A-Za-z0-9_-]{{{LETTERS}}}$"}
MASK = "***"
HIDDEN = "Expected what the schema says; what was found is not told, as there are fields marked `pii`"
_QUOTING = ("json", "schema", "size")  # reasons whose messages may quote what a record holds
_STANDS = re.compile("|".join(PATTERNS.values()))
_PLAIN = (str, int, float, bool, type(None))


def treatment(place: str, rule: Mapping[str, Any]) -> Treatment | None:
    """Return what a field's schema asks for; ConfigError names its place if that is nothing of ours."""
    found = rule.get("pii", False)
    if isinstance(found, bool):
        return "hash" if found else None
    if found not in TREATMENTS:
        raise ConfigError(f"{place}.pii: found {found!r}, expected one of {', '.join(map(repr, TREATMENTS))}")
    return cast(Treatment, found)


def marks(place: str, schema: Mapping[str, Any]) -> dict[str, Treatment]:
    """Return what is to be done with which fields; none for most streams."""
    rules = {name: rule for name, rule in schema["properties"].items() if isinstance(rule, dict)}
    found = {name: treatment(f"{place}: properties.{name}", rule) for name, rule in rules.items()}
    return {name: done for name, done in found.items() if done is not None}


def on_log(schema: dict[str, Any], marked: Mapping[str, Treatment]) -> dict[str, Any]:
    """Return the schema of what is on the log; that of what is sent where nothing is marked."""
    if not marked:
        return schema
    properties = {name: _treated(rule, marked.get(name)) for name, rule in schema["properties"].items()}
    required = [name for name in schema.get("required", []) if marked.get(name) != "drop"]
    return schema | {"properties": properties, "required": required}


def _treated(rule: dict[str, Any], done: Treatment | None) -> dict[str, Any]:
    if done is None:
        return rule
    if done == "drop":
        return {"type": "null", "pii": done}
    empty = "null" in rule.get("type", ()) or None in rule.get("enum", ())
    return {"type": ["string", "null"] if empty else "string", "pattern": PATTERNS[done], "pii": done}


def stands(value: object) -> bool:
    """Whether this looks like what stands for a value."""
    return isinstance(value, str) and _STANDS.match(value) is not None


# Which marks a stream can have


def check(folder: str, pipeline: Pipeline, event: Mapping[str, Treatment], label: Mapping[str, Treatment]) -> None:
    """Raise ConfigError, with file and field, for a mark on what is needed as it is, or told apart by."""
    for name, found, who in _spoilt(pipeline, event):
        raise ConfigError(f"{folder}/event.json: properties.{name}.pii: found {found!r}, but {who}")
    rule = pipeline.stream
    for name, who in ((pipeline.label.field, "field"), (pipeline.label.time, "time")):
        if name in label:
            raise ConfigError(
                f"{folder}/label.json: properties.{name}.pii: found {label[name]!r}, but [label] {who} needs its value"
            )
    for name, who in ((rule.key, "key"), (rule.id, "id")):
        if event.get(name) != label.get(name):
            raise ConfigError(
                f"{folder}/label.json: properties.{name}.pii: found {label.get(name)!r}, expected"
                f" {event.get(name)!r} as in event.json: by the {who} a label finds its event"
            )


def _spoilt(pipeline: Pipeline, event: Mapping[str, Treatment]) -> Iterator[tuple[str, Treatment, str]]:
    rule = pipeline.stream
    if rule.time in event:
        yield rule.time, event[rule.time], "[stream] time needs its value"
    for name, who in ((rule.key, "key"), (rule.id, "id")):
        if event.get(name) == "drop":
            yield name, "drop", f"[stream] {who} needs it; expected 'hash' or 'tokenise'"
    for feature, operator in pipeline.features.items():
        of: str | None = getattr(operator, "of", None)
        if of is not None and of in event:
            yield of, event[of], f"features.{feature} in pipeline.toml needs its value"
        for name in getattr(operator, "by", None) or ():
            if event.get(name) == "drop":
                yield name, "drop", f"features.{feature} in pipeline.toml groups by it; expected 'hash' or 'tokenise'"


def grouping(pipeline: Pipeline, event: Mapping[str, Treatment]) -> dict[str, Treatment]:
    """Return the marks that a fold's state depends on: of the key, the id, and what features are grouped by."""
    by = {name for operator in pipeline.features.values() for name in getattr(operator, "by", None) or ()}
    return {name: done for name, done in event.items() if name in by | {pipeline.stream.key, pipeline.stream.id}}


# What is handed on of a record that was refused


class Shield:
    """Takes out of refused records, and of why they were, what fields marked in this schema of the log may hold."""

    def __init__(self, schema: Mapping[str, Any], key: str) -> None:
        self.marked = marks("", schema)
        self._fields = frozenset(schema["properties"])
        self._key_marked = key in self.marked

    def value(self, value: bytes) -> bytes | None:
        """Return a record without raw values: in their place, and in that of unknown fields', is a mask.

        The very bytes where nothing is marked; None if it can't be read, since then it can't be told what is in it.
        """
        if not self.marked:
            return value
        try:
            found = msgspec.json.decode(bare(value))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return msgspec.json.encode(self.fields(found)) if isinstance(found, dict) else None

    def fields(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value if self._harmless(name, value) else MASK for name, value in found.items()}

    def key(self, key: bytes | None) -> bytes | None:
        hidden = self._key_marked and key is not None and not stands(key.decode(errors="replace"))
        return MASK.encode() if hidden else key

    def reject(self, reject: Reject) -> Reject:
        """Return a refusal that says where, and quotes nothing."""
        if not self.marked or not (reject.reason in _QUOTING or (reject.reason == "key" and self._key_marked)):
            return reject
        found = re.search(r"at `\$\.(\w+)`$", str(reject))
        place = f" - at `$.{found[1]}`" if found and found[1] in self._fields else ""
        return Reject(reject.reason, f"{HIDDEN}{place}")

    def _harmless(self, name: str, value: object) -> bool:
        if name not in self._fields or not isinstance(value, _PLAIN):
            return False
        return name not in self.marked or value is None or (self.marked[name] != "drop" and stands(value))
