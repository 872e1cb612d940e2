"""Labels: joins each scored row with its label, hours later, by the event's id.

Reads `scored`, `labels`; writes `examples`, `dead-letter`; keeps the rows that wait for a label or a correction, most
of each on disk, the labels that may still meet a row, and the ids of recent labels. A bad label and a repeated one go
to `dead-letter`. Start here: `core.py`.
"""
