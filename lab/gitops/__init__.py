"""Flux's controllers, simulated: sources that follow a Git repository, and what is applied from them."""
