"""Makes the msgspec type of a JSON Schema (2020-12): an object of scalars, closed or open.

What a type can't hold a record to is an error here, at start: a rule in a schema is kept, or it is refused.
"""

import re
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from services.runtime.errors import ConfigError
from services.runtime.treatments import treatment

Row: TypeAlias = msgspec.Struct
_OF_NUMBERS = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
_OF_STRINGS = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
_BOUNDS = {"string": _OF_STRINGS, "integer": _OF_NUMBERS, "number": _OF_NUMBERS, "boolean": {}, "null": {}}
_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
_INT64 = {"ge": -(2**63), "le": 2**63 - 1}
_NOTES = {"title", "description", "examples", "default", "$comment"}
_FIELD = _NOTES | set(_OF_NUMBERS) | set(_OF_STRINGS) | {"type", "format", "enum", "pii"}
_OBJECT = _NOTES | {"$schema", "$id", "type", "properties", "required", "additionalProperties"}


def record_type(name: str, schema: dict[str, Any]) -> type[Row]:
    """Make the type; ConfigError names the schema, the field, what was found and what would be right."""
    _check_object(name, schema)
    required = set(schema.get("required", []))
    fields: list[Any] = []
    for field, rule in schema["properties"].items():
        kind = _field_type(f"{name}.{field}", rule)
        fields.append((field, kind) if field in required else (field, kind and kind | None, None))
    closed = schema.get("additionalProperties", True) is False
    try:
        made = msgspec.defstruct(name, fields, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=closed)
        msgspec.json.Decoder(made)
    except (TypeError, ValueError, re.error) as error:
        raise ConfigError(f"{name}: {error}") from error
    return made


def _check_object(name: str, schema: dict[str, Any]) -> None:
    if schema.get("type", "object") != "object" or not isinstance(schema.get("properties"), dict):
        raise ConfigError(f"{name}: found type {schema.get('type')!r}, expected an object with `properties`")
    if strange := set(schema) - _OBJECT:
        raise ConfigError(f"{name}: found {sorted(strange)}, expected none but {sorted(_OBJECT)}")
    if not isinstance(schema.get("additionalProperties", True), bool):
        raise ConfigError(f"{name}.additionalProperties: found a schema, expected true or false")
    if unknown := set(schema.get("required", [])) - set(schema["properties"]):
        raise ConfigError(f"{name}.required: found {sorted(unknown)}, expected names of `properties`")


def _field_type(place: str, rule: Any) -> Any:  # noqa: ANN401 - a schema, and a type expression
    kinds = _kinds(place, rule)
    if "enum" in rule:
        return _enum(place, rule)
    try:
        return _union([_bounded(kind, rule) for kind in kinds])
    except (TypeError, ValueError, re.error) as error:
        raise ConfigError(f"{place}: {error}") from error


def _bounded(kind: str, rule: dict[str, Any]) -> Any:  # noqa: ANN401 - a type expression
    bounds = {ours: rule[theirs] for theirs, ours in _BOUNDS[kind].items() if theirs in rule}
    if kind == "integer" and not bounds.keys() & {"gt", "lt"}:
        bounds = _INT64 | bounds  # larger ones fit into no column
    if not bounds:
        return _TYPES[kind]
    made: Any = Annotated[_TYPES[kind], msgspec.Meta(**bounds)]
    msgspec.json.Decoder(made)
    return made


def _kinds(place: str, rule: Any) -> list[str]:  # noqa: ANN401 - a schema
    if not isinstance(rule, dict):
        raise ConfigError(f"{place}: found {rule!r}, expected a scalar `type` and what bounds it")
    if strange := set(rule) - _FIELD:
        raise ConfigError(f"{place}: found {sorted(strange)}, expected a scalar `type` with none but {sorted(_FIELD)}")
    treatment(place, rule)
    found = rule.get("type", [])
    kinds = [found] if isinstance(found, str) else found
    if not isinstance(kinds, list) or not kinds or not set(kinds) <= set(_TYPES):
        raise ConfigError(f"{place}: found type {found!r}, expected a scalar `type`: one or more of {sorted(_TYPES)}")
    if rule.get("format", "date-time") != "date-time" or ("format" in rule and not set(kinds) <= {"string", "null"}):
        raise ConfigError(f"{place}.format: found {rule['format']!r}, expected 'date-time', on a string")
    if idle := (set(_OF_NUMBERS) | set(_OF_STRINGS)) & set(rule) - {key for kind in kinds for key in _BOUNDS[kind]}:
        raise ConfigError(f"{place}: found {sorted(idle)}, which bounds nothing of type {found!r}")
    return kinds


def _enum(place: str, rule: dict[str, Any]) -> Any:  # noqa: ANN401 - a type expression
    values, kinds = rule["enum"], (str, int, type(None))
    plain = isinstance(values, list) and values and all(type(value) in kinds for value in values)
    if (
        not plain
        or set(rule) & {*_OF_NUMBERS, *_OF_STRINGS, "format"}
        or any(isinstance(value, bool) for value in values)
    ):
        raise ConfigError(
            f"{place}.enum: found {values!r}, expected strings, integers or null, and no bounds beside it"
        )
    return Literal[tuple(values)]


def _union(kinds: list[Any]) -> Any:  # noqa: ANN401 - a type expression
    union = kinds[0]
    for kind in kinds[1:]:
        union = union | kind
    return union
