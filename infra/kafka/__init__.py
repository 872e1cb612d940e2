"""Who may do what on the broker: `acls.toml` says it, `acls.py` reads it, and `granting.py` has a cluster know it."""
