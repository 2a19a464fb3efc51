"""HTTP: what comes in, what goes out."""
