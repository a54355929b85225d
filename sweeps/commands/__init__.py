"""What `espalier` does with a sweep."""
