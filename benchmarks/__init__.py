"""Time, memory and cost of the service, measured in the same run as what one would use instead."""
