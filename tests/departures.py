"""A departure and its landing, as their producers send them."""

from typing import Any

EVENT: dict[str, Any] = {
    "event_id": "2013-01-01-AA-1141-JFK",
    "origin": "JFK",
    "dest": "MIA",
    "carrier": "AA",
    "flight": 1141,
    "tailnum": None,
    "scheduled_at": "2013-01-01T10:40:00Z",
    "departed_at": "2013-01-01T10:42:00Z",
    "departure_delay_min": 2.0,
    "distance_mi": 1089.0,
}
LABEL: dict[str, Any] = {
    "event_id": "2013-01-01-AA-1141-JFK",
    "origin": "JFK",
    "landed_at": "2013-01-01T14:23:00Z",
    "arrival_delay_min": 33.0,
    "late": True,
}
