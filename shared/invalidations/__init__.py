"""Acknowledged invalidations: a 2xx is true at once in every process that keeps copies, even while Redis is down.

A service that decides something (the *owner*) is asked once and its response is remembered elsewhere: tokens in the
gateway, projections in indexing and the notifier. Every process with such copies (a *holder*) has a lease from the
owner, which it renews about once a second by a long poll over HTTP. A change that makes copies untrue writes an
*invalidation* in its own transaction; after the commit, and before the response is sent, the owner waits until every
holder with a live lease has acknowledged it. Leases after C. Gray and D. Cheriton, "Leases: An Efficient Fault-Tolerant
Mechanism for Distributed File Cache Consistency" (SOSP 1989).

Guarantees: once the response to a request that published an event of `shared.events.subscriptions.INVALIDATES` is sent,
no holder acts on what it remembered before: it has acknowledged, or its lease has run out and it uses no copy until it
has caught up. Neither Redis nor the event backbone is involved; the same events follow through them as the safety net.
Does not guarantee: anything about requests that were already under way.
Fails by: waiting. A holder that has died, hangs or is cut off delays a changing request by up to `LEASE_SECONDS +
MARGIN_SECONDS`, until its lease has run out; a holder that cannot reach the owner for so long asks the owner itself
(the gateway), or waits a second for a late renewal and then responds with 503 (projections). What the owner cannot
confirm gets a 503, although it is committed.

Order: invalidations get their positions under an advisory lock that is held until the commit, so that a reader at some
position has read everything before it. A lease is committed before invalidations are read: a change that did not wait
for the lease was committed before it, and is read.
"""

from typing import Final

LEASE_SECONDS: Final = 3.0
# How much longer the owner counts a lease than its holder does: clocks of two machines do not run equally fast.
MARGIN_SECONDS: Final = 0.5
POLL_SECONDS: Final = 1.0
PATH: Final = "/internal/invalidations"
