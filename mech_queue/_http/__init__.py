"""The inside of ``mech_queue.client``: how requests are sent, and one module per noun of the API.

Private: import from ``mech_queue.client``. Needs ``requests`` and nothing else.
"""
