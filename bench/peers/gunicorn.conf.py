"""For the peers, which can not have Sparekey's own: that looks into Sparekey's settings."""

control_socket_disable = True  # a way in that nobody here uses
