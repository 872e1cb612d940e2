"""The stack in containers: its files, and the trial of it that `infra/test-compose` runs."""
