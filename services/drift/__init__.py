"""Drift: whether the stream is still what it was, told from every event, at the same cost whatever the rate.

Reads `scored`, `examples`; writes `summaries` and, folded from these alone, `alerts`; keeps windows of counts and what
the stream was like while nothing changed. A summary seen twice counts once.
Start here: `core.py`, then `reducing.py`, `distributions.py`; `kernels.py` has the statistics, `alarms.py` the alerts.
"""
