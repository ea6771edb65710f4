"""The base of this service's tables."""

from shared.db import Model, new_metadata


class Base(Model):
    __abstract__ = True
    metadata = new_metadata()
