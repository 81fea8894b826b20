"""What tests are built with: real servers on loopback."""
