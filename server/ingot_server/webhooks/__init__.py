"""Webhooks: what callers and the operator are told when a job has ended."""
