"""The local launcher: a broker, Triton and the services as processes of one machine."""
