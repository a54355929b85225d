"""The sweep value: its fields, its validation, and how it is read from a file or an earlier sweep."""
