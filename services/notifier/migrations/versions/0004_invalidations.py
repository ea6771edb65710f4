"""Holders of copies are told what is no longer true, and acknowledge it."""

from shared.migrations import create_invalidations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_invalidations()
