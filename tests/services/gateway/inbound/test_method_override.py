"""A method in a header counts where the protocol of resumable uploads has it, and nowhere else."""

import pytest

from tests.services.gateway.conftest import Gateway
from tests.services.gateway.doubles import Services

PROJECT = "/v1/projects/0198c0de-0000-7000-8000-000000000001"
UPLOAD = f"{PROJECT}/uploads/0198c0de-0000-7000-8000-000000000002"


@pytest.mark.parametrize(
    ("path", "method", "override", "meant"),
    [
        (UPLOAD, "POST", "PATCH", "PATCH"),
        (UPLOAD, "POST", "DELETE", "DELETE"),
        (UPLOAD, "POST", "GET", "POST"),
        (UPLOAD, "POST", "patch", "POST"),
        (UPLOAD, "GET", "DELETE", "GET"),
        (f"{PROJECT}/uploads", "POST", "DELETE", "POST"),
        (f"{PROJECT}/documents", "POST", "DELETE", "POST"),
        (PROJECT, "POST", "DELETE", "POST"),
    ],
)
async def test_only_an_upload_is_told_another_method(
    gateway: Gateway, services: Services, path: str, method: str, override: str, meant: str
) -> None:
    headers, _ = services.identity.new_key()
    more = {**headers, "X-HTTP-Method-Override": override}
    async with gateway.client.request(method, path, headers=more):
        pass
    seen = services.projects.last
    assert seen.method == meant
    assert seen.header("x-http-method-override") is None
