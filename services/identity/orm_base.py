"""The declarative base of identity's tables."""

from shared.db import Model, new_metadata


class Base(Model):
    __abstract__ = True
    metadata = new_metadata()
