"""The vector store: the only place that knows Qdrant.

`store.py` is the door: `VectorStore.project(tenant_id, project_id)` gives a facade which can only see and touch that
project. Behind it an `Engine` (engine.py), the one that the settings name (configured.py): Qdrant's own engine in a
process of its own (embedded.py in front, shard_process.py and shard.py behind), the same shared with other processes
(served.py, serving.py; shared.py), or a Qdrant server (qdrant.py). Nothing outside this package imports anything but
`configured`, `store`, `points` and `errors`.

Kept empty of imports on purpose: the shard's process starts from here and must be light.
"""
