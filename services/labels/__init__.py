"""Labels: joins each scored row with its label, hours later, by the event's id.

Reads `scored`, `labels`; writes `examples`, `dead-letter`; keeps the rows that wait for a label and the labels that may
still meet a row. A bad label goes to `dead-letter`.
Start here: `core.py`.
"""
