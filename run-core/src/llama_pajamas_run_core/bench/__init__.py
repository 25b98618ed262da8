"""Measurements that ``llama-pajamas bench`` makes: what this hardware gives, and what models make of it."""
