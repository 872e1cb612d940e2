"""Trainer: keeps the labelled examples as a Delta table, each once, for models that are trained in batches.

Reads `examples`; writes no topic yet; keeps the table, a version of which a training run pins.
It waits for a store that is away; a table that is not ours, or damaged, is not appended to.
Start here: `core.py`, and `store.py` for the table.
"""
