"""The images: what goes into each, how it is built, and what it says of itself."""
