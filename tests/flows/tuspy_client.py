"""Uploads a file with tuspy as its users do, or goes on with an upload that another process has begun.

Reads {"endpoint", "key", "file", "storage", "metadata", "stop_at", "checksum"} as JSON and writes the address of the
upload. With "stop_at" the process ends as if it were killed, once that many bytes have been sent.
"""

import json
import os
import sys

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

plan = json.load(sys.stdin)
client = TusClient(plan["endpoint"], headers={"Authorization": f"Bearer {plan['key']}"})
uploader = client.uploader(
    plan["file"],
    chunk_size=5 * 1024 * 1024,
    metadata=plan["metadata"],
    store_url=True,
    url_storage=FileStorage(plan["storage"]),  # type: ignore[no-untyped-call]  # untyped there
    upload_checksum=plan["checksum"],
    retries=3,
    retry_delay=1,
)
if plan["stop_at"] is None:
    uploader.upload()
    print(json.dumps({"url": uploader.url, "offset": uploader.offset}))
else:
    uploader.upload(stop_at=plan["stop_at"])
    os._exit(0)
