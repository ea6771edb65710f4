"""A client of an S3-compatible server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

# Holds what is known of the service, which takes time to read.
_SESSION: Final = get_session()


@dataclass(frozen=True, slots=True)
class Access:
    """Where a bucket is and how to sign requests. `url` is the server's; buckets are the first part of paths."""

    url: str
    bucket: str
    region: str
    access_key_id: str
    secret_access_key: str


@asynccontextmanager
async def client_of(access: Access, *, connections: int, seconds: float) -> AsyncIterator["S3Client"]:
    """A client whose requests are sent once: `Bucket` repeats them."""
    config = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        # Only what every server knows: newer kinds of checksums are sent if asked for, and none are.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1},
        max_pool_connections=connections,
        connect_timeout=min(5.0, seconds),
        read_timeout=seconds,
    )
    async with _SESSION.create_client(
        "s3",
        endpoint_url=access.url,
        region_name=access.region,
        aws_access_key_id=access.access_key_id,
        aws_secret_access_key=access.secret_access_key,
        config=config,
    ) as client:
        yield client
