"""What the running daemon shows of itself: gauges, and the snapshot behind the status page."""
