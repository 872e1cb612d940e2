"""The OpenAPI document of the door, made from the stream's own schemas."""

from typing import Any

from services.runtime.stream import Stream

_ANSWER = {
    "type": "object",
    "required": ["accepted", "rejected"],
    "properties": {
        "accepted": {"type": "integer", "description": "records that are durable on the log now"},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["line", "reason", "message"],
                "properties": {
                    "line": {"type": "integer", "minimum": 1, "description": "its number, blank lines counted"},
                    "reason": {"type": "string", "enum": ["json", "schema", "size"]},
                    "message": {"type": "string", "description": "field, expected, found"},
                },
            },
        },
    },
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_READY = {
    "summary": "Whether the log takes records now",
    "responses": {"200": {"description": "It does"}, "503": {"description": "It does not; `waiting_for` says why"}},
}


def document(stream: Stream, max_body: int) -> dict[str, Any]:
    """Return the document as plain data."""
    prefix = f"/v1/streams/{stream.name}"
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Thalweg ingestion: {stream.name}", "version": "1"},
        "paths": {
            f"{prefix}/events": {"post": _post("events", stream.event, max_body)},
            f"{prefix}/labels": {"post": _post("labels", stream.label, max_body)},
            f"{prefix}/predictions": {"get": _predictions(stream)},
            "/healthz": {
                "get": {"summary": "Whether the service is up", "responses": {"200": {"description": "It is"}}}
            },
            "/readyz": {"get": _READY},
            "/metrics": {
                "get": {"summary": "What Prometheus reads", "responses": {"200": {"description": "Its text format"}}}
            },
        },
    }


def _post(kind: str, schema: dict[str, Any], max_body: int) -> dict[str, Any]:
    one = {key: value for key, value in schema.items() if key not in ("$schema", "$id")}
    lines = {"type": "array", "items": one, "minItems": 1, "description": "one such object a line (NDJSON)"}
    return {
        "summary": f"Send {kind}",
        "description": f"At most {max_body} bytes, which may come with `Content-Encoding: gzip`; inflated they count.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": one}, "application/x-ndjson": {"schema": lines}},
        },
        "responses": {
            "202": _response("Accepted lines are durable; the others are listed with the reason", _ANSWER),
            "400": _response("The body is not the gzip that its Content-Encoding says", _ERROR),
            "408": _response("The body took too long to arrive", _ERROR),
            "413": _response("The body is too large, or has too many lines", _ERROR),
            "415": _response("Another Content-Type than these two, or another Content-Encoding", _ERROR),
            "422": _response("No line was good", _ANSWER),
            "503": _response("The way to the log is full or closed; try again after `Retry-After` seconds", _ERROR),
        },
    }


def _predictions(stream: Stream) -> dict[str, Any]:
    key = {"name": "key", "in": "query", "schema": {"type": "string"}, "description": f"only this {stream.key}"}
    events = {"description": "Predictions from now on, one an event", "content": {"text/event-stream": {}}}
    return {"summary": "Follow predictions (server-sent events)", "parameters": [key], "responses": {"200": events}}


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
