"""Internal endpoints of an owner; the gateway routes no client to them."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from shared.current_principal import CurrentPrincipal, operation
from shared.invalidations import PATH
from shared.invalidations.owner import Owner
from shared.lifespan_state import from_lifespan
from shared.request_bodies import Input
from shared.service_permissions import Operation

router = APIRouter(prefix=PATH, include_in_schema=False, dependencies=[operation(Operation.HOLD_COPIES)])


class LeaseRequest(Input):
    """A holder's request for its lease. `acknowledged`: the position up to which it has applied everything; `wait`: for
    new invalidations."""

    holder: uuid.UUID
    durable: bool
    acknowledged: int | None = None
    wait: bool = False


class LeaseChanges(BaseModel):
    """See `shared.invalidations.owner.Changes`."""

    position: int
    entries: list[str]
    more: bool
    forgotten: bool


class Released(BaseModel):
    """The lease is released."""

    released: bool


async def _owner(request: Request) -> Owner:
    return from_lifespan(request, "invalidations", Owner)


async def _consumer(principal: CurrentPrincipal) -> str:
    """The calling service."""
    return principal.subject.removeprefix("service:")


CurrentOwner = Annotated[Owner, Depends(_owner)]
Consumer = Annotated[str, Depends(_consumer)]


@router.post("/lease")
async def lease(body: LeaseRequest, consumer: Consumer, owner: CurrentOwner) -> LeaseChanges:
    """Extend the caller's lease and return new invalidations, waiting briefly for some."""
    changes = await owner.renew(body.holder, consumer, body.acknowledged, durable=body.durable, wait=body.wait)
    return LeaseChanges(
        position=changes.position, entries=list(changes.entries), more=changes.more, forgotten=changes.forgotten
    )


@router.post("/release")
async def release(body: LeaseRequest, consumer: Consumer, owner: CurrentOwner) -> Released:
    """Release the lease: the caller does not use its copies any more."""
    await owner.release(body.holder, consumer)
    return Released(released=True)
