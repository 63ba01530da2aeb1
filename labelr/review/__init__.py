"""A local web page on which people correct labels."""
