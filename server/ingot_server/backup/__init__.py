"""Exports and imports: media items between the bucket, other buckets and directories."""
