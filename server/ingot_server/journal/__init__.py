"""The journal: what was accepted is in the bucket before the caller hears of it."""
