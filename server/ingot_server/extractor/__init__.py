"""yt-dlp as a service: one child process per job, its versions, and the meaning of its answers."""
