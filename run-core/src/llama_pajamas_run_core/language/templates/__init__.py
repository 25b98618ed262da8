"""Chat templates as models bring them: Jinja that nobody here has read. Needs jinja2 (the extra "templates")."""
