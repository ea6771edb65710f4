"""Base of the tables that indexing alone has; the ones every service has come with `shared`."""

from shared.db import Model, new_metadata


class Base(Model):
    __abstract__ = True
    metadata = new_metadata()
