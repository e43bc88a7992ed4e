"""Files and posts that only Telegram's own interfaces give."""
