"""What gunicorn must not do on its own; it reads this file by itself. Sizes belong on its command line."""

# By default it takes SCRIPT_NAME and PATH_INFO from headers of whoever connects from this machine.
forwarder_headers = ""
