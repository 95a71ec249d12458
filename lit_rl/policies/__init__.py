"""What acts. No policy knows data, trainers or algorithms."""
