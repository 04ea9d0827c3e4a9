"""What to look for in text: secrets, personal data, marks, malware, operator's patterns."""
