"""The vector store: the only place that knows Qdrant.

`store.py` is the door: `VectorStore.project(tenant_id, project_id)` gives a facade which can only see and touch that
project. Behind it an `Engine` (engine.py), today Qdrant's own engine in a process of its own (embedded.py in front,
shard_process.py and shard.py behind the socket). Nothing outside this package imports anything but `store`, `points`
and `errors`.

Kept empty of imports on purpose: the shard's process starts from here and must be light.
"""
