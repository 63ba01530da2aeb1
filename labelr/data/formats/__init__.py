"""Label files as people have them: one reader a layout, and the table of them in `layouts`."""
