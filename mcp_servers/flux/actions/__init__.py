"""What may be done to Flux's objects: have one looked at now, suspended, or resumed."""
