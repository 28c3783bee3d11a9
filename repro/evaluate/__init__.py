"""From trained weights to predictions for every test example, accuracy and curves."""
