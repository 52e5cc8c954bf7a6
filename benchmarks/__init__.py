"""What the archive costs: its flow against a plain loop and against the pipeline that a tutorial would write."""
