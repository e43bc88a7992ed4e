"""Child processes: start them with limits, watch them, and end them with all their descendants."""
