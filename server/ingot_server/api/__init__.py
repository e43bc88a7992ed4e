"""The gRPC services and what they share."""
