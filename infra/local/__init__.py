"""Embedded stack: real PostgreSQL, Redis and OpenID provider as child processes, no Docker, all state in one folder."""
