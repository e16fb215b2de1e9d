"""What refinement decides by: whom to ask, how annotators err, how good an answer is. Pure."""
