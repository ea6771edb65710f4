"""What a run may still use of models, reserved in Postgres before each call.

Guarantees: no call is made beyond the budget, however often the run is taken over: a reservation is committed before
its call, and one whose usage nobody can tell any more counts in full.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession

from services.indexing.agents.contracts import BudgetExhausted, Reservation, Usage
from services.indexing.agents.runs import repository
from services.indexing.agents.runs.models import Run

Transaction = Callable[[], AbstractAsyncContextManager[tuple[AsyncSession, Run]]]


class RunBudget:
    """Of one run while a worker has it: `transaction` locks the run, and fails once the worker has lost it."""

    def __init__(self, transaction: Transaction, *, until: float) -> None:
        self._transaction = transaction
        self._until = until

    @property
    def seconds(self) -> float:
        """See `contracts.ModelBudget`."""
        return max(0.0, self._until - asyncio.get_running_loop().time())

    async def reserve(self, tokens: int) -> Reservation:
        """See `contracts.ModelBudget`."""
        if not self.seconds:
            raise BudgetExhausted("seconds")
        async with self._transaction() as (session, run):
            number = await repository.reserve(session, run.id, tokens=tokens)
        if number is None:
            raise BudgetExhausted("model_calls" if run.model_calls >= run.model_calls_limit else "model_tokens")
        return Reservation(id=number, tokens=tokens)

    async def settle(self, reservation: Reservation, usage: Usage) -> None:
        """See `contracts.ModelBudget`."""
        unused = max(0, reservation.tokens - usage.input_tokens - usage.output_tokens)
        async with self._transaction() as (session, run):
            await repository.settle(
                session, run.id, unused=unused, input_tokens=usage.input_tokens, output_tokens=usage.output_tokens
            )
