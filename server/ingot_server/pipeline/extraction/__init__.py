"""yt-dlp in a process of its own: what it is asked, what it may do, what its answers mean."""
