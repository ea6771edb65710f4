"""The bytes of documents. One blob per key `tenant/project/document/version`, never changed once kept.

`store.py` says what a store does; `filesystem.py` is the one on a disk, `s3/` the one in a bucket of an S3-compatible
server. `services.projects.resources` opens the one that the settings name.
"""
