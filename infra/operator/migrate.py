"""Apply the migrations of every service, in one process.

    python -m infra.operator.migrate

Reads `QUARRY_<SERVICE>_OWNER_DATABASE_URL` (or `..._FILE`); a service that has migrations and no address stops the run
before the first migration. A separate process: Alembic and all models need not stay in memory afterwards.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from infra.local.errors import StackError
from infra.operator.migration_status import migrated_services
from shared import migrations


def main() -> None:
    try:
        urls = owner_urls(Path(migrations.__file__).parents[1], os.environ)
    except StackError as error:
        sys.exit(str(error))
    for service, url in urls.items():
        migrations.upgrade(service, url)


def owner_urls(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Address of the owner's role of each service that has migrations.

    Raises:
        StackError: one is not given.
    """
    urls = {}
    for service in migrated_services(root):
        variable = f"QUARRY_{service.upper()}_OWNER_DATABASE_URL"
        if variable in environ:
            urls[service] = environ[variable]
        elif f"{variable}_FILE" in environ:
            urls[service] = Path(environ[f"{variable}_FILE"]).read_text(encoding="utf-8").strip()
        else:
            raise StackError(f"{variable} is not set")
    return urls


if __name__ == "__main__":
    main()
