"""What the provider assumes of Apify, against what Apify does."""
