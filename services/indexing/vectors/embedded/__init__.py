"""Qdrant's engine embedded: a child process that owns the data, and its sharing with other processes of the service.

`engine.py` is in front of the child (shard_server.py, shard.py); `serving_engine.py` and `engine_server.py` offer it to
other processes, which use it through `remote_engine.py`. All of them exchange frames (wire.py, connection.py,
engine_client.py).
"""
