"""The chain viewer: chains that were recorded, a payload of each, one HTML page with a small front end (front/)."""
