"""A budget without a run: counts what is reserved and what is settled."""

from services.indexing.agents.contracts import BudgetExhausted, Reservation, Usage


class Budget:
    """A `contracts.ModelBudget`."""

    def __init__(self, *, tokens: int = 1_000_000, calls: int = 1_000_000, seconds: float = 60.0) -> None:
        self.tokens = tokens
        self.calls = calls
        self.seconds = seconds
        self.reserved: list[int] = []
        self.settled: list[Usage] = []

    async def reserve(self, tokens: int) -> Reservation:
        if len(self.reserved) == self.calls:
            raise BudgetExhausted("model_calls")
        if tokens > self.tokens:
            raise BudgetExhausted("model_tokens")
        self.tokens -= tokens
        self.reserved.append(tokens)
        return Reservation(len(self.reserved), tokens)

    async def settle(self, reservation: Reservation, usage: Usage) -> None:
        self.tokens += reservation.tokens - usage.input_tokens - usage.output_tokens
        self.settled.append(usage)
