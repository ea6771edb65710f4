"""Alembic's entry point for this service's schema."""

from shared.migrations import run_env

run_env()
