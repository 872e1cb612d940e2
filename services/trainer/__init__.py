"""Trainer: keeps the labelled examples as a Delta table, each exactly once, for models that are trained in batches.

Reads `examples`; writes no topic yet; keeps the table, a version of which a training run pins.
A store that is away is waited for, a table that is not ours or damaged is never appended to.
Start here: `core.py`, and `store.py` for the table.
"""
