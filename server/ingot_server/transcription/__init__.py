"""Transcripts: their segments, their files, and the endpoint that makes them from sound."""
