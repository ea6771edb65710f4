"""Alembic's entry for the schema of notifier."""

from shared.migrations import run_env

run_env()
