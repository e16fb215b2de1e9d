"""What a version is: its names, documents, packs, and what sets it apart from another. Pure."""
