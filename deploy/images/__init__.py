"""Pictures as files and as arrays: reading, writing, resizing, sizes, tiles and coordinates."""
