"""The world that the sample model knows: meshes, scenes, materials, lights, and the words for them."""
