"""The guard that all outgoing traffic goes through."""
