"""HTTP in: the only folder that knows Flask. ``api.app.create_app(settings, store)`` makes the WSGI application."""
