"""Ingot's server: the gRPC API, the workers and the embedded storage."""
