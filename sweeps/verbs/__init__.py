"""What `espalier` does with a sweep that has ended: train a trial again, take it away, judge it. And rationales."""
