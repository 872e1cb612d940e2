"""The OpenAPI document of the door, made from the stream's own schemas."""

from typing import Any

from services.ingestion.keys import Scope
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


def document(stream: Stream, max_body: int, *, opened: bool) -> dict[str, Any]:
    """Return the document as plain data; `opened` says that nobody needs a key."""
    prefix = f"/v1/streams/{stream.name}"
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Thalweg ingestion: {stream.name}", "version": "1"},
        "components": {"securitySchemes": {"key": _KEY}},
        "paths": {
            f"{prefix}/events": {
                "post": _post("events", stream.sent("event"), max_body) | _secured("events:write", opened=opened)
            },
            f"{prefix}/labels": {
                "post": _post("labels", stream.sent("label"), max_body) | _secured("labels:write", opened=opened)
            },
            f"{prefix}/predictions": {"get": _predictions(stream) | _secured("predictions:read", opened=opened)},
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
            **_REFUSED,
            "400": _response("The body is not the gzip that its Content-Encoding says", _ERROR),
            "408": _response("The body took too long to arrive", _ERROR),
            "413": _response("The body is too large, or has too many lines", _ERROR),
            "415": _response("Another Content-Type than these two, or another Content-Encoding", _ERROR),
            "422": _response("No line was good", _ANSWER),
            "503": _response(
                "The way to the log is full or closed; try again after `Retry-After` seconds", _ERROR, _AFTER
            ),
        },
    }


def _predictions(stream: Stream) -> dict[str, Any]:
    key = {"name": "key", "in": "query", "schema": {"type": "string"}, "description": f"only this {stream.key}"}
    events = {"description": "Predictions from now on, one an event", "content": {"text/event-stream": {}}}
    return {
        "summary": "Follow predictions (server-sent events)",
        "parameters": [key],
        "responses": {"200": events, **_REFUSED},
    }


def _secured(scope: Scope, *, opened: bool) -> dict[str, Any]:
    """Return what an operation demands: a key with this scope, or nothing where the door is open."""
    return {"security": [{"key": [scope]}, *([{}] if opened else [])]}


def _response(description: str, schema: dict[str, Any], headers: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = {"description": description, "content": {"application/json": {"schema": schema}}}
    return answer if headers is None else {**answer, "headers": headers}


_KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "thalweg_<id>_<secret>",
    "description": "A producer's key, with the scopes and the quota that it was made with: `thalweg keys create`.",
}
_AFTER = {"Retry-After": {"required": True, "description": "in seconds", "schema": {"type": "integer", "minimum": 1}}}
_CHALLENGE = {"WWW-Authenticate": {"required": True, "description": "RFC 6750", "schema": {"type": "string"}}}
_REFUSED = {
    "401": _response("No key, or none that is good: unknown, ended or revoked", _ERROR, _CHALLENGE),
    "403": _response("The key is good, but not for this: its scopes, its streams", _ERROR, _CHALLENGE),
    "429": _response(
        "The producer's quota is spent, of records, of bytes or of listeners; nothing was taken", _ERROR, _AFTER
    ),
}
