"""`python -m infra.contracts`: the command of `infra.contracts.command`."""

import sys

from infra.contracts.command import main

sys.exit(main(sys.argv[1:]))
