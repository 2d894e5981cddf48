"""``python -m napari_fewshot`` is the command line."""

from napari_fewshot.cli import main

if __name__ == "__main__":
    main()
