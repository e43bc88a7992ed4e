"""Finds out what is in a file and whether it is complete, in a process of its own."""
