"""The vector store: the only place that knows Qdrant.

`store.py` is the entrance: `VectorStore.project(tenant_id, project_id)` gives a facade which can only see and touch
that project, and takes the typed filter of a search (filters.py). Behind it is the `Engine` (engine.py) that the
settings name (factory.py makes it): Qdrant's own engine in a process of its own, which other processes of the service
may share (embedded/), or a Qdrant server (qdrant/). Nothing outside this package imports anything but `factory`,
`store`, `filters`, `points` and `errors`.

This file has no imports on purpose: the shard's process starts from here and must be light.
"""
