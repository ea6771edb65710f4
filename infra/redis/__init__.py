"""What a Redis server needs before services may use it: one account per service, with only its streams and keys."""
