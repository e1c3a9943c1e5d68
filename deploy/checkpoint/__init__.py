"""A file becomes tensors and settings, and these a network: nothing in the file is ever executed.

`weights_files` and `unpickling` read the containers, `state_dicts` finds the weights in them, `settings` says what the
authors' files say, and `load` puts it together.
"""
