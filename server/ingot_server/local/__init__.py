"""Embedded mode: local servers, the data directory, ports and replicas on one machine."""
