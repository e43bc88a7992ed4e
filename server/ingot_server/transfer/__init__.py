"""The transfer of bytes: from a source into scratch, and from scratch into the bucket."""
