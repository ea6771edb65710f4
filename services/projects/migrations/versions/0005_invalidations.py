"""Holders of copies are told what is no longer true, and acknowledge it."""

from shared.migrations import create_invalidations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    create_invalidations()
