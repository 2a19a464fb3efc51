"""A transcoding service: what its handlers in `functions/` share, in layers."""
