"""The `opswarm` command."""
