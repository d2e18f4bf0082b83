"""Where and how an implementation is looked at: points, masks, dead parameters, the same question twice."""
