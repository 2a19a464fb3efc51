"""The descriptions of the API and of its events, and what writes them."""
