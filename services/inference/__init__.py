"""Inference: sends feature batches to Triton and writes what consumers read.

Reads `features`, `models`; writes `predictions`, `scored`, and to `models` that a version of the batch model failed;
keeps nothing but which versions are live. While Triton or a first version is away it waits and says so; nothing is
dropped. Start here: `core.py` and `mix.py`, then `scoring.py`; `versioned_model.py` runs inside Triton.
"""
