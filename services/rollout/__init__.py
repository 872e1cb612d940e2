"""Rollout: which model shall serve, told from labelled examples alone. So far its statistics; no service runs them yet.

Reads arrays of losses or probabilities; writes nothing; keeps evidence per pair of models and slice, and the mix's
weights, each as a plain value. What can't be a loss is refused with a ValueError, and nothing is folded then.
Start here: `evidence.py`, then `slices.py` and `hedge.py`.
"""
