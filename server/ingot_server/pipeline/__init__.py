"""A worker's way from a URL to a committed media."""
