"""Grafana as code: boards, and what provisions them."""
