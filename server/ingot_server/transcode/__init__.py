"""From a recipe and a stored media item to a checked result, made by ffmpeg."""
