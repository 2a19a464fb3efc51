"""Media work, free of AWS: facts about a source in, a plan and FFmpeg commands out."""
