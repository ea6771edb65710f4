"""Alembic's entry for the schema of indexing."""

from shared.migrations import run_env

run_env()
