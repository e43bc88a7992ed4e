"""What yt-dlp does not support at Telegram: files of bots, posts by MTProto, post pages."""
