"""Ports for what is about to start."""

from infra.local.brokers import free_ports


def test_no_port_is_given_twice() -> None:
    """A port is not given again while the one that it was given to may not listen yet."""
    given = [port for _ in range(300) for port in free_ports(2)]
    assert len(set(given)) == 600
