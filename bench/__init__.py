"""What a turn costs: `python -m bench` prints a table. Nothing here is asserted, and nothing here is installed."""
