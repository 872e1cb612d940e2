"""How a key is forgotten: taken out of the topics, and of all that was folded from them. `thalweg forget` drives it."""
