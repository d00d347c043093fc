"""What a notebook shows: safe HTML of model text, and turns that stream in their cell."""
