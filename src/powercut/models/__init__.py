"""Models as files: finding, loading, converting and listing them."""
