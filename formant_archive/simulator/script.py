"""What was said in a conversation, and what the agent made of it."""

from typing import Any

from formant_archive.simulator.dice import dice

SPOKEN = "Meridian Finance"
"""Words that stand in every made transcript: whoever finds them in a log has found a leak."""

_NAMES = ("Rahul", "Priya", "Anjali", "Vikram", "Meera", "Arjun", "Fatima", "Joseph", "Harpreet", "रोहित")
_EXCHANGES = (
    (
        "Your instalment of ₹{amount} was due on the {day}th. Did you have a chance to look at it?",
        "Yes, I paid it.",
    ),
    ("May I know when we can expect the payment of ₹{amount}?", "By the {day}th, when my salary comes."),
    ("I can send the payment link once more. Shall I?", "Please do, the old one has expired."),
    ("Is there a better time to call you?", "After six in the evening."),
    ("Would you like to speak to a colleague of mine?", "No, that is all right."),
    ("Can you confirm the last four digits of the account, {digits}?", "हाँ, that is correct."),
    ("We have received ₹{amount} on the {day}th. Thank you.", "Good. So nothing is open?"),
)
_FAILURES = {
    "failed": "call_setup_failed",
    "busy": "user_busy",
    "no_answer": "no_answer_timeout",
    "socket_failure": "voice_stream_closed",
    "telephony_failed": "provider_error",
    "unreachable": "number_unreachable",
}


def transcript(seed: int, conversation_id: str) -> list[dict[str, str]]:
    """Writes the turns of a conversation, the same ones every time."""
    random_numbers = dice(seed, conversation_id, "transcript")
    name = random_numbers.choice(_NAMES)
    turns = [
        ("agent", f"Hello {name}, this is Asha calling from {SPOKEN}. Can we talk?"),
        ("human", "Yes, I can talk."),
    ]
    for question, reply in random_numbers.sample(_EXCHANGES, k=random_numbers.randint(1, 4)):
        facts = {
            "amount": random_numbers.randint(500, 50_000),
            "day": random_numbers.randint(4, 20),
            "digits": random_numbers.randint(1000, 9999),
        }
        turns += [("agent", question.format(**facts)), ("human", reply.format(**facts))]
    turns.append(("agent", f"Your reference is {random_numbers.getrandbits(40):010X}. Goodbye, {name}."))
    return [{"role": role, "message": message} for role, message in turns]


def results(seed: int, conversation_id: str) -> dict[str, Any]:
    """Fills in the agent's own schema for a conversation."""
    random_numbers = dice(seed, conversation_id, "results")
    return {
        "intent": random_numbers.choice(("payment_confirmed", "payment_promised", "callback_asked", "dispute")),
        "sentiment": random_numbers.choice(("positive", "neutral", "negative")),
        "promised_amount": random_numbers.randint(0, 50_000),
    }


def failure_reason(status: str) -> str | None:
    """Says why a call of this status failed, or None where it did not."""
    return _FAILURES.get(status)
