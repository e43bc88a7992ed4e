"""Where media come from, one module a source."""
