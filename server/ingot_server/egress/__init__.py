"""The guard all outgoing traffic goes through."""
