"""Job records, leases, throttling, the feed of changes and the queue."""
