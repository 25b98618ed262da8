"""Small models and other things that several tests share."""
