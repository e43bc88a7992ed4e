"""Subscriptions to channels, playlists and feeds: their store, and which entries are new."""
