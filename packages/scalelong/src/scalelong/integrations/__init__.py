"""Where the skips of other libraries' models arrive; each module belongs to one library and imports nothing of it."""
