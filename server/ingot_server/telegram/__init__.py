"""What yt-dlp does not know of Telegram: a bot's files, and posts read with an account."""
