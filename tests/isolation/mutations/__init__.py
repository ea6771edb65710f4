"""Guards removed one at a time, to see the suite turn red."""
