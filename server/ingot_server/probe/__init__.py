"""What is in a file, read packet by packet in a process of its own, and whether it is whole."""
