"""What to search: the sweep value, its validation, and how it is read from a file or an earlier sweep."""
