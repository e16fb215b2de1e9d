"""The data path to object stores: HTTP/1.1, requests that we sign, and S3 upon both."""
