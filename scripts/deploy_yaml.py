"""Whether every YAML file under deploy/ parses, with every document in it naming what it is."""

import pathlib
import sys

import yaml

failed = False
for path in sorted(pathlib.Path("deploy").rglob("*.y*ml")):
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
        if "kubernetes" in path.parts and any("kind" not in document or "metadata" not in document for document in documents):
            raise ValueError("a Kubernetes object without kind or metadata")
        print(f"{path}: {len(documents)} document(s)")
    except (yaml.YAMLError, ValueError) as error:
        failed = True
        print(f"{path}: {error}", file=sys.stderr)
sys.exit(failed)
