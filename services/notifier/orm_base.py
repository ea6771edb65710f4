"""The notifier's own tables share one metadata; those every service has are in `shared`."""

from shared.db import Model, new_metadata


class Base(Model):
    __abstract__ = True
    metadata = new_metadata()
