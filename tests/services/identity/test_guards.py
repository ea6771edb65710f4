"""Guards of identity that no other test would miss if they were gone; see `tests/isolation/mutations`."""

from datetime import UTC, datetime, timedelta

from services.identity.credentials import hashed, new_secret
from services.identity.sign_in import repository
from services.identity.sign_in.models import LoginState
from shared.tenancy import Database
from tests.services.identity.conftest import SignIn


async def test_a_sign_in_does_not_end_with_another_provider(database: Database) -> None:
    """Else a provider that nobody should trust much could finish what was begun with a better one."""
    state, browser = hashed(new_secret()), hashed(new_secret())
    async with database.system() as session:
        await repository.add(
            session,
            LoginState(
                state_hash=state,
                browser_hash=browser,
                provider="trusted",
                nonce="nonce",
                code_verifier="verifier",
                return_to="/",
                expires_at=datetime.now(UTC) + timedelta(minutes=5),
            ),
        )
    for provider, found in (("other", False), ("trusted", True), ("trusted", False)):
        async with database.system() as session:
            login = await repository.take(session, state_hash=state, browser_hash=browser, provider=provider)
        assert (login is not None) == found


async def test_a_person_sees_nobody_elses_sessions(sign_in: SignIn) -> None:
    mine, _other = await sign_in(), await sign_in()
    listed = (await mine.get("/v1/sessions", params={"limit": 200})).json()
    assert (len(listed["items"]), listed["next_cursor"]) == (1, None)
