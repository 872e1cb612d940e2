"""Log lines: plain text for people, or with `THALWEG_LOG=json` one JSON object a line for machines.

Passwords in addresses, tokens and the like are masked in both. A line that is written while a trace is at work
names it.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime

import msgspec

from services.runtime.errors import ConfigError
from services.runtime.quiet import Quiet

VARIABLE, FORMS = "THALWEG_LOG", ("text", "json")
TRACE: ContextVar[tuple[str, str] | None] = ContextVar("trace", default=None)  # of a trace and its span, in hex
MASK = "***"
FIELDS = "fields"  # the `extra` of a line that says in fields what its message says in words
_SECRETS = (
    re.compile(r"(?:(?<=://)|(?<=:/))[^/\s:@]*:[^/\s@]+(?=@)"),  # of an address; as a path it has one slash
    re.compile(r"(?i)(?<=bearer )[\w.~+/=-]+"),
    re.compile(r"(?<=thalweg_[0-9a-f]{12}_)[\w-]{43}"),  # of an API key
    re.compile(r"(?i)(?<=[#?&]token=)[^&\s\"']+"),
    re.compile(
        r"(?i)(?:(?<=password)|(?<=secret)|(?<=api_key)|(?<=apikey))(?P<is>\w*['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&]+"
    ),
)


def trace_id() -> str | None:
    """Return the trace that is at work here, if there is one."""
    found = TRACE.get()
    return None if found is None else found[0]


def begin(service: str, environment: Mapping[str, str]) -> None:
    """Have this process log to its standard error in the form that the environment asks for; ConfigError if none is."""
    form = environment.get(VARIABLE, FORMS[0])
    if form not in FORMS:
        raise ConfigError(f"{VARIABLE}: found {form!r}; there are {' and '.join(FORMS)}")
    instance = environment.get("THALWEG_INSTANCE", "1")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(service, instance) if form == "json" else Text(service))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("librdkafka").addFilter(Quiet())


class Text(logging.Formatter):
    """A line, and what an exception says below it."""

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s {service} %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class Line(msgspec.Struct, omit_defaults=True):
    """A line as a machine reads it. `exception` is the traceback; `logger` the module that speaks."""

    time: str
    service: str
    instance: str
    level: str
    logger: str
    message: str
    trace_id: str | None = None
    span_id: str | None = None
    exception: str | None = None
    fields: Mapping[str, str | int] | None = None


class Json(logging.Formatter):
    """One object a line, whatever the message holds."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._service, self._instance = service, instance

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        trace, span = TRACE.get() or (None, None)
        error = record.exc_info
        told = masked("".join(traceback.format_exception(*error))) if error and error[0] else None
        line = Line(
            when.replace("+00:00", "Z"),
            self._service,
            self._instance,
            record.levelname,
            record.name,
            masked(_message(record)),
            trace,
            span,
            told,
            getattr(record, FIELDS, None),
        )
        return msgspec.json.encode(line).decode()


def _message(record: logging.LogRecord) -> str:
    """Return the message; text that is no Unicode, as a file's name may be, is shown as it can be."""
    return record.getMessage().encode("utf-8", "backslashreplace").decode()


def masked(text: str) -> str:
    """Return the text without what looks like a secret."""
    for secret in _SECRETS:
        text = secret.sub(lambda found: found.groupdict().get("is", "") + MASK, text)
    return text
