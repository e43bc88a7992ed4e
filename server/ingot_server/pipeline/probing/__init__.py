"""What a file is, read packet by packet in a process of its own."""
