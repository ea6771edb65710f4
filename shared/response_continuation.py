"""A response whose body another service sends: the first one names the address, the gateway goes on there.

As with nginx's `X-Accel-Redirect`. The gateway accepts the header from one service alone and passes it to nobody.
"""

from typing import Final

CONTINUES: Final = "X-Quarry-Continue"
