"""napari glue: the only writer of layers. Panels live in `widgets`."""
