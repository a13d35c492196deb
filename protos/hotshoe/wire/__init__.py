"""The only mapping between messages and values, and between errors and statuses."""
