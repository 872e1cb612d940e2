"""Dashboards as code: `make.py` writes the JSON files beside it, which Grafana's provisioning takes as they are."""
