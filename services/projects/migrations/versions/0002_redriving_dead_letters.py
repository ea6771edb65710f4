"""Dead letters can be tried again."""

from shared.migrations import make_dead_letters_redrivable

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    make_dead_letters_redrivable()
