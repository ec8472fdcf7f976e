"""The search for the choices of a run that give the least validation loss."""
