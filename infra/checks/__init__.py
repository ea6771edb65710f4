"""Checks of the source that no general linter knows; part of `uv run lint`."""
