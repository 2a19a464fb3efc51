"""The command `transcoding`."""
