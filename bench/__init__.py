"""Measurements behind docs/performance.md. `python -m bench [NAME]` runs them."""
