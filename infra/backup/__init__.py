"""Back-ups of an installation: what of it is kept, how it is copied while a run is up, and how it comes back."""
