"""The sequences of a worker: from a URL to a committed media item."""
