"""A release: its version (versions.py), its files (build.py), and their check (verify.py).

docs/releasing.md is the checklist.
"""
