"""Holders of copies are told what is no longer true, and acknowledge it."""

from shared.migrations import create_invalidations

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    create_invalidations()
