"""What this project is made of, and what must not be in it: licences, advisories, secrets. Judged by `rules.toml`."""
