"""The services of Thalweg: one folder, one process, one consumer group each; `runtime` is all that they share."""
