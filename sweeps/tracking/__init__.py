"""MLflow: events, their delivery, the store."""
