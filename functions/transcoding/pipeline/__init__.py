"""The stages of making a result: source, plan, encode, publish, join."""
