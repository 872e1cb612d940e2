"""Console: what an operator sees, and decides. It reads what services sum up, never every event.

Reads `predictions`; writes nothing; keeps spans in SQLite, and a picture in bounded memory that a restart reads again.
A broker that is away is waited for, and the page says so.
Start here: `core.py`, then `app.py`.
"""
