"""Alembic's entry for the schema of identity."""

from shared.migrations import run_env

run_env()
