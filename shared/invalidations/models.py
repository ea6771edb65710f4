"""Tables of a service that owns what others keep copies of."""

import uuid
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Identity, Text, Uuid, false, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.db import Model
from shared.tenancy import TenantOwned


class Invalidation(TenantOwned, Model):
    """One event, an envelope in JSON, and the services whose copies it makes untrue."""

    __tablename__ = "invalidations"

    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    consumers: Mapped[list[str]] = mapped_column(ARRAY(Text()))
    entry: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"), index=True)


class CopyLease(Model):
    """A process that may use its copies until `expires_at`, and the position up to which it has acknowledged
    invalidations. Once released it gets no further lease: a renewal may have been overtaken by the release."""

    __tablename__ = "copy_leases"

    holder: Mapped[uuid.UUID] = mapped_column(Uuid(as_uuid=True), primary_key=True)
    consumer: Mapped[str]
    acknowledged: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]
    released: Mapped[bool] = mapped_column(server_default=false())
