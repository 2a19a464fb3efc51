"""What the service promises: the calls, the jobs of the workers, the sweep."""
