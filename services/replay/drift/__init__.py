"""The report on a stream's drift: what the log tells of alerts, versions and losses, as numbers and as one page.

`reading.py` folds the log in bounded memory, `report.py` says what follows from it, `page.py` draws it. Start there.
"""
