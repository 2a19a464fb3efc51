"""FFmpeg's arguments."""
