"""What the service costs in time and memory, beside what one would use instead, measured in the same run."""
