"""results.json: assembled from finished steps."""
