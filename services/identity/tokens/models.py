"""Keys that sign internal tokens."""

from datetime import datetime

from sqlalchemy import Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.identity.orm_base import Base


class SigningKey(Base):
    """`private_jwk` is a JWE made with the installation's encryption key; a copy of the table signs nothing."""

    __tablename__ = "signing_keys"

    kid: Mapped[str] = mapped_column(Text, primary_key=True)
    private_jwk: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    activates_at: Mapped[datetime]
