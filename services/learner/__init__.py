"""Learner: folds labelled examples into the online model (River), predicting each before learning it.

Reads `examples`; writes `models`, and a signed artifact per published version; keeps the model.
A damaged state is never loaded; the model is folded again from an older snapshot.
Start here: `core.py`.
"""
