"""Bytes on their way: from a source into scratch, and from scratch into the bucket."""
