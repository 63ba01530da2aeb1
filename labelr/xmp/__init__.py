"""Keywords in XMP packets."""
