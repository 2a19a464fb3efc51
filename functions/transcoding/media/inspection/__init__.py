"""Inspects sources: which streams they have, and how these can be decoded."""
