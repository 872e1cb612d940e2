"""Ingestion: the HTTP door. Events and labels come in, predictions stream out, for those whose API key says so.

Reads HTTP, `predictions`; writes `events`, `labels`; keeps nothing. A bad line is refused with its reason, and a full
queue with 503; what was answered with 202 is durable on the log.
Start here: `core.py`, then `app.py`; who is let in: `keys.py`, then `doorkeeper.py`.
"""
