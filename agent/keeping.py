"""What is kept on disk of a camera, pictures or clips: files of ours in a folder, bounded by count, bytes and age."""
