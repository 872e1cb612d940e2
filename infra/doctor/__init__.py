"""What `thalweg doctor` looks at: a file for each part of an installation, each of which returns findings."""
