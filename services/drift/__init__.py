"""Drift: says when the world has changed, since when, and what has.

Reads `scored`, `examples`, `summaries`, `commands`, `alerts`; writes `summaries`, `alerts`; keeps folds and hours, in
tables. A summary seen twice counts once; alerts are a function of the log of summaries. Start here: `core.py`.
"""
