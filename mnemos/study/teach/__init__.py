"""Teaching with a proof: look at rows and model, propose arms, race them, prove the chosen one, hand it over."""
