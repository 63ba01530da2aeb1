"""Images, label files and results in buckets: objects as local files, brought when they are opened."""
