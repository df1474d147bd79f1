"""Build the image: ``python -m tests.guests.image``."""

from tests.guests.image import ImageUnavailable, ensure_image

if __name__ == "__main__":
    try:
        image = ensure_image()
    except ImageUnavailable as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{image.initramfs.parent}\n{image.manifest}", end="")
