"""Your own images: a folder in, a classifier out."""
