"""The published language: what services tell each other, one module per producer. See `docs/events.md`."""
