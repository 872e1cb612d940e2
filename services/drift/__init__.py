"""Drift: says when the world has changed, since when, and what has.

Reads `scored`, `examples`; writes `summaries`, `alerts`; keeps windows and reference profiles, in tables.
A summary seen twice counts once; alerts are a function of the log of summaries.
"""
