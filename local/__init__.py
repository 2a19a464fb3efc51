"""The embedded stack on a laptop, and the tools around it."""
