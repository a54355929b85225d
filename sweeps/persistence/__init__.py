"""State that survives a crash: snapshots, mirrors, locks, interrupts."""
