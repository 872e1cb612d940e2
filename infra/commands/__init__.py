"""The commands of `thalweg` that read or repair a log, a file each: `add` makes the parser, and names what it runs."""
