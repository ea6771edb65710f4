"""What projects refuse."""

from shared.errors import Conflict


class LastOwner(Conflict):
    code = "last_owner"
    detail = "A project keeps at least one owner; make somebody else an owner first."
