"""A Qdrant server as the engine."""
