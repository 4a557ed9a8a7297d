"""The admin's tools, one file a group. The web app never imports them."""
