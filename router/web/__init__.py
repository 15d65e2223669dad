"""THE AIOHTTP SIDE: what the router answers itself, on the admin listener and on the data listener's other paths."""
