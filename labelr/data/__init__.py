"""From a folder to tensors."""
