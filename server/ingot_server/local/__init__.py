"""Embedded mode: the servers, the data directory and the ports of one machine."""
