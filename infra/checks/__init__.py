"""Checks of the source that no general linter has; part of `uv run lint`."""
