"""unzip [-q] ARCHIVE [PATTERN] -d FOLDER: a minimal host has none."""

import argparse
import fnmatch
import zipfile
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("-q", action="store_true")
parser.add_argument("-d", type=Path, required=True)
parser.add_argument("archive")
parser.add_argument("pattern", nargs="?", default="*")
options = parser.parse_args()
with zipfile.ZipFile(options.archive) as archive:
    for name in fnmatch.filter(archive.namelist(), options.pattern):
        file = Path(archive.extract(name, options.d))
        if mode := archive.getinfo(name).external_attr >> 16:
            file.chmod(mode)
