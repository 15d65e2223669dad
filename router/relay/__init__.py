"""THE DATA PATH: downstream (a client connection), exchange (one request), upstream (connections), stream."""
