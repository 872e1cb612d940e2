"""Trainer: keeps the labelled examples as a Delta table, each once, and fits a network (PyTorch) to a version of it.

Reads `examples`; writes no topic yet; keeps the table. `thalweg train` pins a version, trains, and signs an ONNX graph.
A store that is away is waited for; a table that is not ours, or a network not to be trusted, is a Stop.
Start here: `core.py` for the training, `store.py` for the table.
"""
