"""Job records, leases, the feed of changes and the queue."""
