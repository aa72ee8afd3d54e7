"""Study file -> arms -> cached steps -> record."""
