"""What schemathesis has to be told of NDJSON: how it is written, and that good lines count beside bad ones."""

import json
from typing import Any

import schemathesis
from schemathesis import Case, GenerationMode, HookContext, SerializationContext

NDJSON = "application/x-ndjson"


@schemathesis.serializer(NDJSON)
def lines(_: SerializationContext, value: Any) -> bytes:
    """Write a list as NDJSON, anything else as one line."""
    return "\n".join(json.dumps(line) for line in (value if isinstance(value, list) else [value])).encode()


@schemathesis.hook
def filter_case(_: HookContext, case: Case) -> bool:
    """Leave out NDJSON that does not fit: a list with one bad line is answered 202, which names that line."""
    wrong = case.meta is not None and case.meta.generation.mode is GenerationMode.NEGATIVE
    return not (case.media_type == NDJSON and wrong)
