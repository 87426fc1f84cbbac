"""The model: files, tensors, a picture. No sockets, and no files but weights."""
