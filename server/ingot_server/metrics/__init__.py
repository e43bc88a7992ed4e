"""Metrics: the one list of what is measured, the values of this process, and their text."""
