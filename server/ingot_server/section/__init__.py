"""Sections of media: what lies between two moments, cut out of its files without encoding."""
