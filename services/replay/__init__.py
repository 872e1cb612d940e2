"""Drives the services' own cores from a recorded log: verifies what was written, rebuilds it, sends it through again.

No service imports this; the command line does. Start here: `verify.py`, then `fold.py`.
"""
