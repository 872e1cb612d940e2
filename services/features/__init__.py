"""Features: turns events into feature vectors, a batch at a time.

Reads `events`; writes `features`, `late`, `dead-letter`; keeps per partition windows, last values and recent ids.
A bad record goes to `dead-letter`; anything else that goes wrong ends the process, and a restart folds again.
Start here: `core.py`, then `engine.py`.
"""
