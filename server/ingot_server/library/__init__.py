"""What is stored: identities, manifests and blobs."""
