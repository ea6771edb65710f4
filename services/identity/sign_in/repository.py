"""SQL of sign-ins under way."""

from sqlalchemy import delete, func
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.sign_in.models import LoginState


async def add(session: AsyncSession, state: LoginState) -> None:
    session.add(state)
    await session.flush()


async def take(session: AsyncSession, *, state_hash: bytes, browser_hash: bytes, provider: str) -> LoginState | None:
    """Remove and return the sign-in that this browser began with this provider, unless it has expired. Once only."""
    return await session.scalar(
        delete(LoginState)
        .where(
            LoginState.state_hash == state_hash,
            LoginState.browser_hash == browser_hash,
            LoginState.provider == provider,
            LoginState.expires_at > func.now(),
        )
        .returning(LoginState)
    )


async def forget_expired(session: AsyncSession) -> None:
    await session.execute(delete(LoginState).where(LoginState.expires_at < func.now()))
