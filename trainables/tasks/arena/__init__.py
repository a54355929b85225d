"""Generated reasoning questions of five kinds."""
