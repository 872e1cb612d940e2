"""Log lines: every one parses, secrets are masked, and a trace that is at work is named."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import ConfigError
from services.runtime.logs import TRACE, Json, Text, begin, masked

ROOT = Path(__file__).parents[2]


def record(message: str, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("services.features.core", level, "core.py", 1, message, arguments, None)


def parsed(line: str) -> dict[str, str]:
    assert "\n" not in line
    found: dict[str, str] = json.loads(line)
    return found


@given(st.text(st.characters(codec=None)))
def test_every_line_parses(message: str) -> None:
    """Whatever a message holds, line breaks and lone surrogates too, its line is one JSON object."""
    found = parsed(Json("features", "2").format(record("%s", message)))
    assert {name: found[name] for name in ("service", "instance", "level")} == {
        "service": "features",
        "instance": "2",
        "level": "INFO",
    }
    if message.isascii() and "=" not in message and ":" not in message:
        assert found["message"] == message


def test_a_line_names_the_trace_at_work() -> None:
    """Trace and span are those of the context that writes, and absent where there is none."""
    form = Json("features", "1")
    assert "trace_id" not in parsed(form.format(record("before")))
    token = TRACE.set(("ab" * 16, "cd" * 8))
    found = parsed(form.format(record("within")))
    TRACE.reset(token)
    assert (found["trace_id"], found["span_id"]) == ("ab" * 16, "cd" * 8)


def test_an_exception_is_in_its_line() -> None:
    """A traceback does not become lines of its own, and hides its secrets as a message does."""
    try:
        int("kafka://me:hunter22@host")
    except ValueError:
        told = record("failed", level=logging.ERROR)
        told.exc_info = sys.exc_info()
    found = parsed(Json("features", "1").format(told))
    assert "Traceback" in found["exception"]
    assert "hunter22" not in found["exception"]
    assert "kafka://***@host" in found["exception"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to https://me:hunter22@host/path", "to https://***@host/path"),
        ("redis://:hunter22@host", "redis://***@host"),
        ("the path s3:/me:hunter22@host/x", "the path s3:/***@host/x"),
        ("sasl.password=hunter22, next", "sasl.password=***, next"),
        ("{'password': 'hunter22', 'a': 1}", "{'password': '***', 'a': 1}"),
        ("aws_secret_access_key: hunter22", "aws_secret_access_key: ***"),
        ("Authorization: Bearer hunter22", "Authorization: Bearer ***"),
        ("http://127.0.0.1:8090/#token=hunter22", "http://127.0.0.1:8090/#token=***"),
        ("offset 3 of flights.events[2] at 127.0.0.1:9092", "offset 3 of flights.events[2] at 127.0.0.1:9092"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    """What looks like a secret is not shown, in either form; nothing else changes."""
    assert masked(text) == shown
    assert shown in Text("features").format(record("%s", text))
    assert parsed(Json("features", "1").format(record("%s", text)))["message"] == shown


def test_another_form_is_refused() -> None:
    """A form that there is not is an error that names those that there are."""
    with pytest.raises(ConfigError, match="THALWEG_LOG: found 'xml'; there are text and json"):
        begin("features", {"THALWEG_LOG": "xml"})


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_process_logs_in_the_form_asked_for(form: str) -> None:
    """The service's own start, wrongly configured, says so in a line of that form, and ends with 1."""
    environment = {"PATH": "/usr/bin:/bin", "THALWEG_LOG": form, "THALWEG_INSTANCE": "3", "THALWEG_STREAM": "none"}
    done = subprocess.run(
        [sys.executable, "-m", "services.rollout"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    if form == "json":
        found = parsed(line)
        assert (found["service"], found["instance"], found["level"]) == ("rollout", "3", "CRITICAL")
    else:
        assert " rollout CRITICAL " in line
