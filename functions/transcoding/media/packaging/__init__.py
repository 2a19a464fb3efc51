"""Segments, playlists, manifests and files."""
