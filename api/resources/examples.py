"""Examples that the documentation shows; the tests send them."""

SUBMISSION = {
    "queue": "email-notifications",
    "data": {"to": "user@example.com", "subject": "Welcome!"},
    "metadata": {"priority": "high", "customerId": "cust-123", "type": "transactional"},
    "webhooks": {"completed": "https://myapp.com/webhooks/job-completed"},
    "options": {"priority": 5, "attempts": 3, "backoff": {"type": "exponential", "delay": 1000}},
}
BATCH = {"jobs": [{"queue": "email", "data": {"n": 1}}, {"queue": "email", "data": {"n": 2}}]}
CLAIM = {"limit": 10, "wait": 20, "workerId": "worker-1"}
