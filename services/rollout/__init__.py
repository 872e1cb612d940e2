"""Rollout: which version of the batch model serves, and how much it counts, told from labelled examples alone.

Reads `examples`, `models`; writes `models`; keeps the evidence on each version, and its weight beside the online one.
A decision that holds no longer, as a person or a guard was quicker, is left undone.
Start here: `core.py`, then `judging.py`; `evidence.py`, `slices.py` and `hedge.py` are its statistics.
"""
