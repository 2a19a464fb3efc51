"""What the service does, free of Lambda events."""
