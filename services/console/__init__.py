"""Console: what an operator sees, and decides. It reads what services sum up, never every event, and stores spans.

Reads `summaries`, `models`, `alerts`, `commands`, `dead-letter`, `predictions`, and `scored` and `labels` of one event;
writes `commands`, `models`, `dead-letter`; keeps spans in SQLite, and a picture in bounded memory. A broker that is
away is waited for, and the page says so. Start here: `core.py`, then `app.py`.
"""
