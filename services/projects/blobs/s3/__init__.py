"""Blobs in a bucket of an S3-compatible server: `store.py` is the entrance, `bucket.py` and `client.py` talk to it."""
