"""The story of one event, told from the log: what became of it, why, and what learned from it, traced live or not.

Start here: `telling.py`, then `past.py`.
"""
