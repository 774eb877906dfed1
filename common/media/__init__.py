"""Picture, sound and video files as people keep them, each read in one place: drivers, importers and models share it.

Files are data of strangers: whatever is wrong with one raises `fault.MediaError`, one line. Libraries are imported when
they are needed.
"""
