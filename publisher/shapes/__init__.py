"""The arithmetic of masks, many at once: runs, outlines, distances, what hangs together. Pure."""
