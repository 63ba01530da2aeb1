"""The page to look at, and its charts as files."""
