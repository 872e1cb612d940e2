"""The stack in containers: `thalweg up --runtime docker`, and the trial of it that `infra/test-compose` runs."""
