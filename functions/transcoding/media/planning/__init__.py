"""What to make of a source: pure functions."""
