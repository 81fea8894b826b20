"""The devops agent: answers questions about the cluster from live state."""
