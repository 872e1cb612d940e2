"""The stream folder: what is right loads; what is wrong is named with its file, its place and what would be right."""

import json
import re
import shutil
from pathlib import Path

import pytest

from services.runtime.codec import JsonCodec
from services.runtime.errors import ConfigError
from services.runtime.grammar import Duration
from services.runtime.stream import TOPICS, Stream, load_stream

SCHEMAS = Path(__file__).parents[2] / "schemas"
EVENT = {
    "required": ["id", "shop", "town", "at", "sent", "price"],
    "properties": {
        "id": {"type": "string"},
        "shop": {"type": "string"},
        "town": {"type": "string"},
        "sent": {"type": "string", "format": "date-time"},
        "at": {"type": "string", "format": "date-time"},
        "price": {"type": "number"},
        "sold": {"type": ["boolean", "null"]},
        "kind": {"type": ["string", "null"]},
        "mixed": {"type": ["string", "integer"]},
        "any": {},
    },
}
LABEL = {
    "required": ["id", "shop", "town", "due", "due_again", "late", "lost"],
    "properties": {
        "id": {"type": "string"},
        "shop": {"type": "string"},
        "town": {"type": "string"},
        "due_again": {"type": "string", "format": "date-time"},
        "lost": {"type": "boolean"},
        "due": {"type": "string", "format": "date-time"},
        "late": {"type": "boolean"},
        "note": {"type": "string"},
    },
}
PIPELINE = """
[stream]
task = "binary"
key = "shop"
time = "at"
id = "id"
lateness = "5m"

[features]
price = { op = "value", of = "price" }
kind = { op = "onehot", of = "kind", values = ["b", "a"], other = true }
hour = { op = "hour" }
mean = { op = "mean", of = "price", window = "1h", by = ["shop", "kind"] }
count = { op = "count", window = "15m" }

[label]
field = "late"
time = "due"
horizon = "2d"

[online]
model = ["preprocessing.StandardScaler", "linear_model.LogisticRegression"]
"""


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """Return a schemas folder with one good stream, `shops`."""
    folder = tmp_path / "shops"
    folder.mkdir()
    (folder / "event.json").write_text(json.dumps(EVENT))
    (folder / "label.json").write_text(json.dumps(LABEL))
    (folder / "pipeline.toml").write_text(PIPELINE)
    return tmp_path


def change(schemas: Path, old: str, new: str) -> None:
    assert old in PIPELINE, f"the case changes nothing: {old}"
    (schemas / "shops" / "pipeline.toml").write_text(PIPELINE.replace(old, new, 1))


def changed(schemas: Path, old: str, new: str) -> Stream:
    change(schemas, old, new)
    return load_stream(schemas, "shops")


def wrong(schemas: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_stream(schemas, "shops")
    return str(error.value)


# What is right


def test_flights() -> None:
    """The flights folder is a stream: its vector, in the order of its file, and its topics."""
    stream = load_stream(SCHEMAS, "flights")
    assert (stream.name, stream.key) == ("flights", "origin")
    assert stream.columns[:3] == ("delay", "distance", "carrier=UA")
    assert stream.columns[-1] == "quiet"
    assert len(stream.columns) == len(set(stream.columns)) == 29
    assert re.fullmatch(r"flights:[0-9a-f]{16}", stream.feature_set)
    assert stream.topic("dead-letter") == "flights.dead-letter"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SCHEMAS.glob("*/pipeline.toml")))
def test_every_folder(name: str) -> None:
    """Every stream that ships loads, its schemas make codecs, and its topics are its own."""
    stream = load_stream(SCHEMAS, name)
    JsonCodec("event", stream.event)
    JsonCodec("label", stream.label)
    assert all(stream.topic(kind).startswith(f"{name}.") for kind in TOPICS)


def test_columns(schemas: Path) -> None:
    """Columns follow the features' order in the file, and within a feature its values' order in the file."""
    stream = load_stream(schemas, "shops")
    assert stream.columns == ("price", "kind=b", "kind=a", "kind=other", "hour_sin", "hour_cos", "mean", "count")
    again = changed(schemas, 'price = { op = "value", of = "price" }\n', "")
    assert again.columns == stream.columns[1:]
    closed = changed(schemas, ", other = true", "")
    assert closed.columns == tuple(column for column in stream.columns if column != "kind=other")


def test_defaults(schemas: Path) -> None:
    """What the file leaves out has a value."""
    pipeline = changed(schemas, 'lateness = "5m"\n', "").pipeline
    assert pipeline.stream.lateness.us == 600_000_000
    assert pipeline.stream.guarantee == "exactly_once"
    assert pipeline.label.on_timeout == "drop"
    assert pipeline.online.snapshot_every.seconds == 1.0
    assert pipeline.replay.speed == 1.0
    assert pipeline.batch is None


OPERATORS = [
    '{ op = "value", of = "sold" }',
    '{ op = "weekday" }',
    '{ op = "lag", of = "price", n = 3 }',
    '{ op = "since_last", by = ["kind", "shop"] }',
    '{ op = "ewma", of = "price", half_life = "6h" }',
    '{ op = "rate", window = "1d" }',
    *(f'{{ op = "{op}", of = "price", window = "1w", default = 1.5 }}' for op in ("sum", "std", "min", "max")),
]


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators(schemas: Path, operator: str) -> None:
    """Each operator of the grammar is understood."""
    assert changed(schemas, '{ op = "hour" }', operator).columns[4].startswith("hour")


@pytest.mark.parametrize(
    ("text", "us"),
    [("90s", 90_000_000), ("1.5m", 90_000_000), ("2h", 7_200_000_000), ("1d", 86_400_000_000), ("1w", 604_800_000_000)],
)
def test_durations(text: str, us: int) -> None:
    """A length of time is a number and a unit."""
    assert Duration(text).us == us
    assert Duration(text).seconds == us / 1e6


@pytest.mark.parametrize(
    "text", ["", "h", "1", "1 h", "-1h", "0s", "0.0h", "1h30m", "1H", "1ms", ".5h", "1.h", "1e3s", 60]
)
def test_no_durations(text: str) -> None:
    """Anything else is refused with examples of what is right; no length of time is none at all."""
    with pytest.raises(
        ValueError, match='Expected a length of time such as "90s", "15m", "1h" or "2d", up to 100 years, got'
    ):
        Duration(text)


# What is wrong

HOUR = '{ op = "hour" }'
MEAN = '{ op = "mean", of = "price", window = "1h", by = ["shop", "kind"] }'
FIELDS = "id, shop, town, sent, at, price, sold, kind, mixed, any"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[stream]", "[stream", ["Expected ']'", "line 2"]),
        ('id = "id"', 'id = "id"\nid = "id"', ["line 7"]),
        (HOUR, '{ op = "hours" }', ["'hours'", "features", ".op"]),
        (HOUR, "{ }", ["missing required field `op`", "features"]),
        (HOUR, '{ op = "hour", of = "at" }', ["unknown field `of`", "features"]),
        (HOUR, '{ op = "count" }', ["missing required field `window`", "features"]),
        (
            HOUR,
            '{ op = "count", window = "1 hour" }',
            ["'1 hour'", "features", ".window", '"90s", "15m", "1h" or "2d"'],
        ),
        (HOUR, '{ op = "count", window = 3600 }', ["3600", ".window", '"90s", "15m", "1h" or "2d"']),
        (HOUR, '{ op = "ewma", of = "price", half_life = "0h" }', ["'0h'", ".half_life", "Expected a length of time"]),
        (HOUR, '{ op = "value", of = 1 }', ["Expected `str`, got `int`", ".of"]),
        (HOUR, '"hour"', ["Expected `object`, got `str`", "features"]),
        (MEAN, MEAN.replace('["shop", "kind"]', '"shop"'), ["got `str`", ".by"]),
        (MEAN, MEAN.replace('"shop", ', ""), ["features.mean.by", "['kind']", "key 'shop'", "other partitions"]),
        (MEAN, MEAN.replace('"shop", "kind"', ""), ["features.mean.by", "[]", "key 'shop'"]),
        (MEAN, MEAN.replace('"kind"', '"colour"'), ["features.mean", "'colour'", FIELDS]),
        (MEAN, MEAN.replace('"price"', '"prize"'), ["features.mean", "'prize'", FIELDS]),
        (MEAN, MEAN.replace('"price"', '"late"'), ["features.mean", "'late'", FIELDS]),
        (MEAN, MEAN.replace('"price"', '"kind"'), ["features.mean.of", "'kind'", "a number or boolean"]),
        (MEAN, MEAN.replace('"price"', '"at"'), ["features.mean.of", "'at'", "a number or boolean"]),
        (MEAN, MEAN.replace('"price"', '"mixed"'), ["features.mean.of", "'mixed'", "a number or boolean"]),
        (MEAN, MEAN.replace('"price"', '"any"'), ["features.mean.of", "'any'", "a number or boolean"]),
        ('of = "kind"', 'of = "price"', ["features.kind.of", "'price'", "number", "a string"]),
        ('of = "kind"', 'of = "at"', ["features.kind.of", "'at'", "a string"]),
        ('key = "shop"', 'key = "store"', ["[stream]", "'store'", "event.json"]),
        ('time = "at"', 'time = "when"', ["[stream]", "'when'", "event.json"]),
        ('id = "id"', 'id = "uid"', ["[stream]", "'uid'", "event.json"]),
        ('key = "shop"', 'key = "kind"', ["[stream]", "'kind'", "a required property in event.json"]),
        ('field = "late"', 'field = "lat"', ["[label]", "'lat'", "label.json"]),
        ('field = "late"', 'field = "note"', ["[label]", "'note'", "a required property in label.json"]),
        ('time = "due"', 'time = "at"', ["[label]", "'at'", "label.json"]),
        ('horizon = "2d"', "", ["missing required field `horizon`", "$.label"]),
        ('horizon = "2d"', 'horizon = "2 days"', ["'2 days'", "$.label.horizon"]),
        ('horizon = "2d"', 'horizon = "2d"\non_timeout = "maybe"', ["'maybe'", "$.label.on_timeout"]),
        ('horizon = "2d"', 'horizon = "2d"\ncorrections = "47h"', ["'47h'", "label.corrections", "'2d'"]),
        ('task = "binary"', 'task = "binary"\ngroups = 1', ["$.stream.groups"]),
        ('task = "binary"', 'task = "guess"', ["'guess'", "$.stream.task"]),
        ('task = "binary"', 'task = "binary"\nguarantee = "at_most_once"', ["'at_most_once'", "$.stream.guarantee"]),
        ('task = "binary"', 'task = "binary"\nkeys = "shop"', ["unknown field `keys`", "$.stream"]),
        ("[online]\nmodel", "[online]\nmodels", ["`models`", "$.online"]),
        ("[online]", "[offline]", ["`offline`"]),
        ("[online]", '[batch]\nkind = "forest"\n\n[online]', ["'forest'", "$.batch.kind"]),
        ("[online]", "[batch]\nwidths = 8\n\n[online]", ["unknown field `widths`", "$.batch"]),
        ("[online]", "[batch]\ndropout = 1.0\n\n[online]", ["< 1.0", "$.batch.dropout"]),
        ("[online]", "[batch]\nwidth = 0\n\n[online]", [">= 1", "$.batch.width"]),
        ("[online]", '[batch]\nepochs = "many"\n\n[online]', ["Expected `int`, got `str`", "$.batch.epochs"]),
        ("[online]", "[batch]\nvalidation = 0.5\n\n[online]", ["<= 0.4", "$.batch.validation"]),
        ("[online]", "[batch]\nlearning_rate = 0.0\n\n[online]", ["> 0.0", "$.batch.learning_rate"]),
    ],
)
def test_wrong_pipeline(schemas: Path, old: str, new: str, said: list[str]) -> None:
    """Whatever is wrong in `pipeline.toml`, the error names the file, the place in it, and what it found or wants."""
    change(schemas, old, new)
    message = wrong(schemas)
    assert message.startswith(str(schemas / "shops" / "pipeline.toml"))
    assert all(part in message for part in said), message


def test_no_features(schemas: Path) -> None:
    """A stream without a feature, and one without the section, is refused."""
    head, tail = PIPELINE[: PIPELINE.index("price = ")], PIPELINE[PIPELINE.index("[label]") :]
    path = schemas / "shops" / "pipeline.toml"
    path.write_text(head + tail)
    assert wrong(schemas) == f"{path}: [features] is empty; a model needs at least one"
    path.write_text(head.replace("[features]", "") + tail)
    assert wrong(schemas) == f"{path}: Object missing required field `features`"


def test_not_text(schemas: Path) -> None:
    """A file that is not UTF-8 is named."""
    path = schemas / "shops" / "pipeline.toml"
    path.write_bytes(b'\xff\xfe[stream]\ntask = "binary"')
    assert wrong(schemas).startswith(f"{path}: 'utf-8' codec can't decode")


@pytest.mark.parametrize("file", ["event.json", "label.json"])
def test_schema_missing(schemas: Path, file: str) -> None:
    """A missing schema is named."""
    path = schemas / "shops" / file
    path.unlink()
    assert wrong(schemas) == f"{path}: missing; a stream needs a JSON Schema for it"


@pytest.mark.parametrize("file", ["event.json", "label.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff"])
def test_schema_broken(schemas: Path, file: str, content: bytes) -> None:
    """A schema that is no JSON, or no schema of an object, is named with what it should be."""
    path = schemas / "shops" / file
    path.write_bytes(content)
    assert wrong(schemas).startswith(f"{path}: not a JSON Schema of an object with `properties`: ")


def test_key_in_label(schemas: Path) -> None:
    """The key and the id are required in the label too, or it would not land on its event's partition."""
    path = schemas / "shops" / "label.json"
    path.write_text(json.dumps(LABEL | {"required": ["id", "town", "due", "late"]}))
    assert "[label] names 'shop', which is not a required property in label.json" in wrong(schemas)


def test_unknown_stream(schemas: Path) -> None:
    """A stream that is not there is named, and so are those that are."""
    shutil.copytree(schemas / "shops", schemas / "markets")
    (schemas / "empty").mkdir()
    with pytest.raises(ConfigError) as error:
        load_stream(schemas, "shop")
    assert "no stream 'shop'" in str(error.value)
    assert str(schemas / "shop" / "pipeline.toml") in str(error.value)
    assert "['markets', 'shops']" in str(error.value)
    with pytest.raises(ConfigError, match="no stream 'empty'"):
        load_stream(schemas, "empty")


# Fingerprints


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('window = "1h"', 'window = "2h"'),
        ('op = "mean"', 'op = "sum"'),
        ('of = "price" }', 'of = "price", default = 1.0 }'),
        (', by = ["shop", "kind"]', ""),
        (', by = ["shop", "kind"]', ', by = ["shop"]'),
        ('values = ["b", "a"]', 'values = ["a", "b"]'),
        (", other = true", ""),
        (HOUR, '{ op = "weekday" }'),
        ("hour = ", "hours = "),
        ('lateness = "5m"', 'lateness = "6m"'),
        ('lateness = "5m"', 'lateness = "5m"\ngroups = 7'),
        ('price = { op = "value", of = "price" }\n', ""),
        ("[label]", 'more = { op = "since_last" }\n\n[label]'),
        (f"hour = {HOUR}\nmean = {MEAN}", f"mean = {MEAN}\nhour = {HOUR}"),
    ],
)
def test_feature_set_changes(schemas: Path, old: str, new: str) -> None:
    """The feature set's fingerprint changes with a feature, its name, its place or a number in it, and the lateness."""
    assert load_stream(schemas, "shops").feature_set != changed(schemas, old, new).feature_set


@pytest.mark.parametrize(("old", "new"), [('key = "shop"', 'key = "town"'), ('time = "at"', 'time = "sent"')])
def test_feature_set_of_key_and_time(schemas: Path, old: str, new: str) -> None:
    """The feature set's fingerprint changes with the key and with the event time."""
    plain = PIPELINE.replace(', by = ["shop", "kind"]', "")
    path = schemas / "shops" / "pipeline.toml"
    path.write_text(plain)
    before = load_stream(schemas, "shops")
    path.write_text(plain.replace(old, new))
    assert load_stream(schemas, "shops").feature_set != before.feature_set


SAME = [
    ('horizon = "2d"', 'horizon = "2d"\ncorrections = "1w"'),
    ("[features]", 'guarantee = "at_least_once"\n\n[features]'),
    ('field = "late"', 'field = "lost"'),
    ('time = "due"', 'time = "due_again"'),
    ('horizon = "2d"', 'horizon = "3d"'),
    ('horizon = "2d"', 'horizon = "2d"\non_timeout = "negative"'),
    ('"preprocessing.StandardScaler", ', ""),
    ("[online]", '[online]\nsnapshot_every = "9s"'),
    ("[online]", "[replay]\nspeed = 7\n\n[online]"),
    ("[online]", '[batch]\nkind = "gru"\n\n[online]'),
    ('window = "1h"', 'window = "60m"'),
    (HOUR, '{op="hour",default=0}'),
    ("[features]", "# the vector\n[features]"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_feature_set_stays(schemas: Path, old: str, new: str) -> None:
    """Label rule, models, replay, and another spelling of the same leave the feature set's fingerprint as it was."""
    before = load_stream(schemas, "shops")
    after = changed(schemas, old, new)
    assert after.feature_set == before.feature_set
    assert after.columns == before.columns


def test_feature_set_has_the_stream_s_name(schemas: Path) -> None:
    """The same features on another stream are another feature set by name, with the same fingerprint."""
    shutil.copytree(schemas / "shops", schemas / "markets")
    ours, theirs = (load_stream(schemas, name).feature_set for name in ("shops", "markets"))
    assert ours.removeprefix("shops:") == theirs.removeprefix("markets:")


@pytest.mark.parametrize(
    ("old", "new", "label", "online"),
    [
        ('field = "late"', 'field = "lost"', True, False),
        ('time = "due"', 'time = "due_again"', True, False),
        ('horizon = "2d"', 'horizon = "3d"', True, False),
        ('horizon = "2d"', 'horizon = "2d"\non_timeout = "negative"', True, False),
        ('horizon = "2d"', 'horizon = "2d"\ncorrections = "2d"', True, False),
        ('id = "id"', 'id = "shop"', True, False),
        ('"preprocessing.StandardScaler", ', "", False, True),
        ("[online]", '[online]\nsnapshot_every = "9s"', False, False),
        ('window = "1h"', 'window = "2h"', False, False),
    ],
)
def test_other_rules(schemas: Path, old: str, new: str, label: bool, online: bool) -> None:  # noqa: FBT001 - a table
    """The label rule's and the online model's fingerprints change with what their states depend on, and no more."""
    before = load_stream(schemas, "shops")
    after = changed(schemas, old, new)
    assert (after.label_rule != before.label_rule, after.online_rule != before.online_rule) == (label, online)
