"""Sample programs around Sparekey. None of them belongs to a deployment."""
