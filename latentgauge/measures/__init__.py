"""What is measured, as pure functions of tensors: nats, float64, no option, file or service."""
