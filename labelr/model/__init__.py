"""The network and its life on disk."""
