"""Child processes: started with limits, watched, and ended with everything below them."""
