"""Qdrant's engine embedded: a child process that owns the data, and its sharing with other processes of the service.

`engine.py` is in front of the child (shard_process.py, shard.py); `served.py` and `serving.py` offer it to other
processes, which use it through `shared.py`. All of them exchange frames (wire.py, connection.py, connected_engine.py).
"""
