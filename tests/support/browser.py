"""A browser as far as sign-in needs one: it keeps cookies, and posts the development provider's form by hand."""

import ssl
from http.cookies import SimpleCookie
from typing import Any, Final

import httpx

SESSION: Final = "__Host-quarry_session"
CSRF: Final = "__Host-quarry_csrf"
# The provider is reached without TLS. Loading the certificates of all authorities takes longer than a sign-in.
_NOBODY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Browser:
    """Keeps cookies as a browser does on loopback, which counts as secure even without TLS."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.cookies: dict[str, str] = {}

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**options.pop("headers", {}), **({"Cookie": cookie} if cookie else {})}
        answer = await self._client.request(method, url, headers=headers, **options)
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                assert morsel["secure"] and morsel["path"] == "/", line
                self.cookies[name] = morsel.value
        return answer

    async def change(self, method: str, url: str, **options: Any) -> httpx.Response:
        """An unsafe request, with the session's CSRF token."""
        headers = {**options.pop("headers", {}), "X-CSRF-Token": self.cookies[CSRF]}
        return await self.request(method, url, headers=headers, **options)

    async def begin(self) -> str:
        """Where the gateway sends the browser to sign in."""
        answer = await self.request("GET", "/auth/login/dev", params={"return_to": "/projects"})
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def approve(self, location: str, user: str = "dev-user") -> str:
        """Sign in at the provider; where it sends the browser back to."""
        async with httpx.AsyncClient(verify=_NOBODY) as elsewhere:
            answer = await elsewhere.post(location, data={"sub": user})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    async def sign_in(self, user: str = "dev-user") -> None:
        answer = await self.request("GET", await self.approve(await self.begin(), user))
        assert (answer.status_code, answer.headers["location"]) == (303, "/projects"), answer.text
