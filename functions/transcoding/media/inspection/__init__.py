"""What a source holds."""
