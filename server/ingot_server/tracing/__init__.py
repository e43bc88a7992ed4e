"""Traces: spans of calls, of the attempts of jobs, and of what these ask of others.

`scopes.py` says what the current work is a part of, and is imported everywhere. Only `recorder.py`
imports OpenTelemetry, and only `trace_export.py` imports that, when traces are turned on.
"""
