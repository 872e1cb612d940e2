"""Trainer: keeps the labelled examples as a Delta table, each once, and fits a network (PyTorch) to a version of it.

Reads `examples`, `models`, `alerts`, `commands`; writes `models`, and a signed artifact per version; keeps the table
and the versions' cards. It trains by schedule, and as an alert asks (`asking.py`, `windows.py`). A store that is away
is waited for, a training that was killed goes on; a table that is not ours is a Stop.
Start here: `core.py` for the training, `store.py` for the table, `stage.py` for what happens when.
"""
