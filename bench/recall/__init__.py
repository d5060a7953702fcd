"""How much of the evidence for a question recall brings back, over long dialogues with known evidence."""
