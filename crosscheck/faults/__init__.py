"""Real porting bugs, planted one at a time in a copy of an implementation: crosscheck must see each of them."""
