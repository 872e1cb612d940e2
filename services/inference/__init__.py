"""Inference: sends feature batches to Triton and writes what consumers read.

Reads `features`, `models`; writes `predictions`, `scored`; keeps nothing but which version is live.
While Triton or a first version is away it waits and says so; nothing is dropped.
Start here: `core.py`, then `scoring.py`; `online_model.py` runs inside Triton.
"""
