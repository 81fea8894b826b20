"""GitHub's REST API over a real Git repository: branches are branches, merges are merges."""
