"""A stream, read from its folder: `event.json`, `label.json` and `pipeline.toml`, checked as a whole."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from services.runtime.errors import ConfigError
from services.runtime.grammar import Duration, OneHot, Operator, Pipeline
from services.runtime.treatments import Treatment, check, grouping, marks, on_log

Kind: TypeAlias = Literal["event", "label"]
ENGINE = 3  # raised whenever the same definition would give other feature bytes, or a state that is laid out otherwise
TOPICS = (
    *("events", "labels", "late", "dead-letter", "features", "scored", "predictions", "examples", "models"),
    *("summaries", "alerts", "commands"),
)
MOST_LATE = 100  # windows
LARGEST_MESSAGE = 16 << 20  # bytes, on the topics that services write
UNPARTITIONED = ("dead-letter", "late", "examples", "models", "summaries", "alerts", "commands")  # 1: a total order


class Stream(msgspec.Struct, frozen=True):
    """A checked stream. `columns` names the feature vector; `feature_set` is the fingerprint of how it is made.

    `event` and `label` are the schemas of what is on the log.
    """

    name: str
    event: dict[str, Any]
    label: dict[str, Any]
    pipeline: Pipeline
    columns: tuple[str, ...]
    feature_set: str
    sent_event: dict[str, Any] | None = None  # as producers send it, where it is another on the log
    sent_label: dict[str, Any] | None = None

    def sent(self, kind: Kind) -> dict[str, Any]:
        """Return the schema of what producers send; `event` and `label` are what is on the log."""
        return (self.sent_event or self.event) if kind == "event" else (self.sent_label or self.label)

    def marks(self, kind: Kind) -> dict[str, Treatment]:
        """Return what is done with which fields before they come to the log."""
        return marks(f"{self.name}/{kind}.json", self.sent(kind))

    @property
    def label_rule(self) -> str:
        """The fingerprint of what the join's state depends on."""
        rule = self.pipeline.stream
        treated = grouping(self.pipeline, self.marks("label"))
        return _hash([self.pipeline.label, rule.id, rule.key, rule.ahead, rule.dedupe, *([treated] if treated else [])])

    @property
    def online_rule(self) -> str:
        """The fingerprint of what the online model's state depends on."""
        return _hash([self.pipeline.online.model, self.pipeline.online.renew])

    @property
    def rollout_rule(self) -> str:
        """The fingerprint of what the evidence on models depends on."""
        rule = self.pipeline.rollout
        counts = [rule.shadow_examples, rule.canary_examples, rule.patience]
        return _hash([rule.alpha, rule.apart, *counts, rule.slices, rule.floor, rule.window])

    @property
    def drift_rule(self) -> str:
        """The fingerprint of what the state of the drift monitors depends on."""
        rule = self.pipeline.drift
        return _hash([rule.false_alarms, rule.reference, rule.slices])

    def topic(self, kind: str) -> str:
        return f"{self.name}.{kind}"

    @property
    def key(self) -> str:
        return self.pipeline.stream.key


def load_stream(schemas: Path, name: str) -> Stream:
    """Read `schemas/<name>/`; raise ConfigError naming the file, the place in it, what was found and what is right."""
    folder = schemas / name
    if not (folder / "pipeline.toml").is_file():
        there = sorted(p.parent.name for p in schemas.glob("*/pipeline.toml"))
        raise ConfigError(f"no stream {name!r}: {folder}/pipeline.toml does not exist. Streams here: {there}")
    files = [folder / "event.json", folder / "label.json"]
    sent = list(map(_read_schema, files))
    marked = [marks(str(path), schema) for path, schema in zip(files, sent, strict=True)]
    event, label = map(on_log, sent, marked)
    source = (folder / "pipeline.toml").read_bytes()
    pipeline = _read_pipeline(folder / "pipeline.toml", source)
    check(str(folder), pipeline, *marked)
    _check(folder / "pipeline.toml", pipeline, event, label)
    columns = [column for field, op in pipeline.features.items() for column in op.columns(field)]
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise ConfigError(
            f"{folder}/pipeline.toml: features: found {twice} twice, expected every column to have a name"
        )
    feature_set = f"{name}:{_fingerprint(pipeline, grouping(pipeline, marked[0]))}"
    kept = [schema if marked_ else None for schema, marked_ in zip(sent, marked, strict=True)]
    return Stream(name, event, label, pipeline, tuple(columns), feature_set, *kept)


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        schema: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        _ = schema["properties"]
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: missing; a stream needs a JSON Schema for it") from error
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a JSON Schema of an object with `properties`: {error}") from error
    return schema


def _read_pipeline(path: Path, source: bytes) -> Pipeline:
    try:
        return msgspec.convert(tomllib.loads(source.decode()), Pipeline, dec_hook=lambda kind, value: kind(value))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _fingerprint(pipeline: Pipeline, treated: dict[str, Treatment]) -> str:
    """Hash what the feature bytes depend on: the operators in order, time and key, what is refused or forgotten.

    What is treated changes the values that groups and ids have; without a mark the fingerprint is what it was.
    """
    rule = pipeline.stream
    refused = [rule.id, rule.ahead, rule.dedupe]  # what is refused leaves no trace in a window
    features = [rule.groups, list(pipeline.features.items()), *([treated] if treated else [])]
    return _hash([ENGINE, rule.key, rule.time, rule.lateness, *refused, *features])


def _hash(parts: list[Any]) -> str:
    canonical = msgspec.json.encode(parts, enc_hook=_plain, order="sorted")
    return hashlib.sha256(canonical).hexdigest()[:16]


def _plain(value: Any) -> str:  # noqa: ANN401 - msgspec's hook takes anything
    if isinstance(value, Duration):
        return str(value.us)
    raise NotImplementedError(type(value))


def _check(path: Path, pipeline: Pipeline, event: dict[str, Any], label: dict[str, Any]) -> None:
    fields = event["properties"]
    _expect_fields(path, "event.json", event, "stream", [pipeline.stream.key, pipeline.stream.time, pipeline.stream.id])
    needed = [pipeline.stream.id, pipeline.stream.key, pipeline.label.field, pipeline.label.time]
    _expect_fields(path, "label.json", label, "label", needed)
    for name in (pipeline.stream.key, pipeline.stream.id):
        _expect_kind(path, "event.json", event, name, "string", None)
        _expect_kind(path, "label.json", label, name, "string", None)
    _expect_kind(path, "event.json", event, pipeline.stream.time, "string", "date-time")
    _expect_kind(path, "label.json", label, pipeline.label.time, "string", "date-time")
    _expect_kind(path, "label.json", label, pipeline.label.field, "boolean", None)
    corrections, horizon = pipeline.label.corrections, pipeline.label.horizon
    if corrections is not None and corrections.us < horizon.us:
        raise ConfigError(
            f"{path}: label.corrections: found {corrections.text!r}, expected at least the horizon, {horizon.text!r}"
        )
    if not pipeline.features:
        raise ConfigError(f"{path}: [features] is empty; a model needs at least one")
    onehot = [name for name, operator in pipeline.features.items() if isinstance(operator, OneHot)]
    for section, slices in (("rollout", pipeline.rollout.slices), ("drift", pipeline.drift.slices)):
        for name in slices:
            if name not in onehot:
                raise ConfigError(f"{path}: {section}.slices: found {name!r}, expected one-hot features: {onehot}")
    for name, operator in pipeline.features.items():
        _check_feature(f"{path}: features.{name}", operator, pipeline.stream.key, fields)
        _check_window(f"{path}: features.{name}", operator, pipeline.stream.lateness)


def _expect_fields(path: Path, file: str, schema: dict[str, Any], section: str, names: list[str]) -> None:
    for name in names:
        if name not in schema["properties"] or name not in schema.get("required", []):
            raise ConfigError(f"{path}: [{section}] names {name!r}, which is not a required property in {file}")


def _expect_kind(path: Path, file: str, schema: dict[str, Any], name: str, kind: str, form: str | None) -> None:
    found = schema["properties"][name]
    if found.get("type") != kind or found.get("format") != form:
        wanted = f"a {kind}" + (f" of format {form}" if form else "")
        raise ConfigError(f"{path}: {name!r} is {found.get('type')!r} in {file}, expected {wanted}")


def _check_feature(place: str, operator: Operator, key: str, fields: dict[str, Any]) -> None:
    of, by = getattr(operator, "of", None), getattr(operator, "by", None)
    for name in [of, *(by or [])]:
        if name is not None and name not in fields:
            raise ConfigError(f"{place}: found {name!r}, expected a field of the event: {', '.join(fields)}")
    if by is not None and key not in by:
        raise ConfigError(
            f"{place}.by: found {by}, expected the stream's key {key!r} among them: another grouping would"
            " need events of other partitions, which no single fold sees"
        )
    if of is not None and not _fits(operator, fields[of]):
        raise ConfigError(
            f"{place}.of: found {of!r} of type {fields[of].get('type')}, expected"
            f" {'a string' if isinstance(operator, OneHot) else 'a number or boolean'}"
        )


def _check_window(place: str, operator: Operator, lateness: Duration) -> None:
    window: Duration | None = getattr(operator, "window", None)
    if window is not None and lateness.us > MOST_LATE * window.us:
        raise ConfigError(
            f"{place}.window: found {window.text!r} with lateness {lateness.text!r}, expected a lateness of at most"
            f" {MOST_LATE} windows: panes are kept for as long as an event may be late"
        )


def _fits(operator: Operator, field: dict[str, Any]) -> bool:
    kinds = {field.get("type")} if isinstance(field.get("type"), str) else set(field.get("type", []))
    wanted = {"string"} if isinstance(operator, OneHot) else {"number", "integer", "boolean"}
    return bool(kinds) and kinds - {"null"} <= wanted and "format" not in field
