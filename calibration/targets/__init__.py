"""A float graph and a recipe become int8 graphs, in the form that each kind of backend really runs in int8."""
