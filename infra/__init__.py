"""What runs Thalweg on one machine and beyond: the launcher, the command line, pins and deployment files."""
