"""What every service shares: settings, codecs, the transactional loop, snapshots, signatures, errors.

Importing this package imports nothing heavy; each module names the one library that it is the home of.
Start here: `loop.py`.
"""
