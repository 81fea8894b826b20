"""The healthy cluster: compact YAML in `cluster/`, grown into full objects."""
