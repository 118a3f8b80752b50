"Packaging of danet_nb: every value comes from settings.ini, which nbdev reads as well."

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(ROOT / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]


def requirements(key: str) -> list[str]:
    "The space-separated requirements of `key`; each one is written without inner spaces."
    return settings.get(key, "").split()


def absolute_links(text: str) -> str:
    "The README for a package index, which has none of the files that its links name."
    page = f"{settings['git_url']}/blob/{settings['branch']}/"
    picture = page.replace("//github.com/", "//raw.githubusercontent.com/").replace("/blob/", "/")
    relative = r"(?!https?://|#|mailto:)"
    text = re.sub(rf"(!\[[^\]]*\]\(){relative}", rf"\g<1>{picture}", text)
    text = re.sub(rf"(<img[^>]*\ssrc=\"){relative}", rf"\g<1>{picture}", text)
    return re.sub(rf"(\]\(|\shref=\"){relative}", rf"\g<1>{page}", text)


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=absolute_links((ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    keywords=settings["keywords"],
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    license="Apache-2.0",
    packages=[settings["lib_path"]],
    package_data={settings["lib_path"]: ["py.typed", "picture.js"]},
    python_requires=">=" + settings["min_python"],
    install_requires=requirements("requirements"),
    extras_require={
        "lab": requirements("lab_requirements"),
        "export": requirements("export_requirements"),
        "mat": requirements("mat_requirements"),
        "dev": requirements("lab_requirements")
        + requirements("mat_requirements")
        + requirements("export_requirements")
        + requirements("dev_requirements"),
    },
    entry_points={
        "console_scripts": ["danet=danet_nb.cli:main"],
        "nbdev": ["danet_nb=danet_nb._modidx:d"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Education",
        "Programming Language :: Python :: 3",
        "Typing :: Typed",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
