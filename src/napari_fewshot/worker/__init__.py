"""The worker process, ``python -m napari_fewshot.worker``. Never imports Qt."""
