"""The FFmpeg programs and their processes."""
