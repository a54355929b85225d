"""What must survive a crash: snapshots, mirrors, locks, interrupts."""
